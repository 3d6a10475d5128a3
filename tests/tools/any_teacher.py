"""A scripted teacher for every kind of row: it writes what it is asked for, as it is asked for."""

from __future__ import annotations

import json
import random
import re

from tests.tools.fault_teacher import Call, Reply

SUBJECTS = [
    "parcel",
    "invoice",
    "kettle",
    "tent",
    "login",
    "refund",
    "charger",
    "jacket",
    "harbour",
    "bakery",
]
VERBS = [
    "arrived",
    "broke",
    "vanished",
    "worked",
    "stopped",
    "returned",
    "changed",
    "opened",
    "failed",
    "moved",
]


def write_any_rows(call: Call) -> Reply:
    """The rows of a request of any strategy, the verdict on a preference pair, or a rationale."""
    rng = random.Random(f"{call.number} {call.question}")
    if "Which of two answers" in call.question:
        first = re.search(r"Answer A:\n(.*)", call.question)[1]
        return Reply("A" if first.startswith("Certainly") else "B")
    if "Which class does a text belong to" in call.question:
        return Reply('{"label": "none of them"}')  # so nobody trusts it with the rows
    if "Continue this list" in call.question:
        return Reply(f"- {_write_sentence(rng)}")
    if "Explain how this answer follows" in call.question:
        answer = re.search(r"<answer>(.*?)</answer>", call.question)[1]
        return Reply(f"<rationale>So it is {answer}.</rationale>\n<answer>{answer}</answer>")
    if "Write one that is wrong" in call.question:
        return Reply("<answer>The lighthouse keeper's brother</answer>")
    count = int(re.search(r"Write (\d+) new", call.question)[1])
    label = re.search(r'of the class "([^"]+)"', call.question)
    if "<rationale>" in call.question:
        rows = [_write_tags(rng, label[1] if label else "") for _ in range(count)]
        return Reply("\n".join(rows))
    keys = re.findall(r'"(\w+)"', re.search(r"with the keys? (.*)\.", call.question)[1])
    return Reply(json.dumps([_write_row(rng, keys, call.question) for _ in range(count)]))


def _write_sentence(rng: random.Random) -> str:
    what, verb = rng.choice(SUBJECTS), rng.choice(VERBS)
    return f"The {what} {rng.randrange(10**6)} {verb} on day {rng.randrange(365)}"


def _write_tags(rng: random.Random, label: str) -> str:
    number = rng.randrange(1000)
    answer = label or str(2 * number)
    return (
        f"<example><input>{_write_sentence(rng)}, {number} times two?</input>"
        f"<rationale>Two times {number} is {2 * number}.</rationale>"
        f"<answer>{answer}</answer></example>"
    )


def _write_row(rng: random.Random, keys: list[str], question: str) -> dict[str, str]:
    text = _write_sentence(rng)
    number = text.split()[2]
    row = {
        "input": f"{text}.\n\nWhich number had it?" if "copied" in question else f"{text}.",
        "output": number,
        "chosen": f"Certainly, {number}.",
        "rejected": f"No idea about {number}.",
    }
    if "summary" in question:
        row["input"] = " ".join(_write_sentence(rng) + "." for _ in range(6))
        row["output"] = row["input"].split(".")[0] + "."
    if "SELECT" in question:
        row["output"] = f"SELECT name FROM ports WHERE ships > {number}"
    if '\\"filter\\"' in question:
        row["output"] = json.dumps({"filter": {"total": {"gt": int(number)}}, "month": 5})
    if keys == ["output"]:
        row["output"] = f"{text}. {_write_sentence(rng)}."
    return {key: row[key] for key in keys}
