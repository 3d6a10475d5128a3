"""A whole tiny job whose answers are free text, and a scripted judge of them over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tools.fault_teacher import Call, Reply
from tests.tools.tiny_job import write_job

PLACES = ("shelf", "yard", "truck", "desk", "cellar", "attic", "garage")
NUM_TEST_ROWS = 52
NUM_TRIAL_QUESTIONS = 40  # 20 rows in both orders


def find_place(number: int) -> str:
    """The right answer to the row of this number."""
    return f"on {PLACES[number % len(PLACES)]} {number}"


def write_rows(path: Path, numbers: range) -> None:
    """Questions with one right answer each."""
    rows = [{"prompt": f"where is {n}", "completion": find_place(n)} for n in numbers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_free_text_job(folder: Path, judge: dict[str, Any] | None, **changes: Any) -> Path:
    """Write model, rows and manifest; returns the manifest's path.

    Args:
        judge: the block `evaluation.judge`; None for a job without one.
        changes: blocks of the spec that replace the default ones.
    """
    evaluation = {"inContextShots": 1, "maxNewTokens": 4, "baselines": ["zeroShot"]}
    if judge is not None:
        evaluation["judge"] = judge
    blocks = {
        "data": {
            "task": "generation",
            "description": "Say where things are.",
            "seeds": {"uri": "file://./seeds.jsonl"},
            "test": {"uri": "file://./test.jsonl"},
        },
        "training": {
            "method": "lora",
            "learningRate": 0.01,
            "epochs": 2,
            "globalBatch": 8,
            "checkpoint": {"everySeconds": 0},
        },
        "evaluation": evaluation,
    }
    manifest = write_job(folder, **{**blocks, **changes})
    write_rows(folder / "seeds.jsonl", range(24))
    write_rows(folder / "test.jsonl", range(100, 100 + NUM_TEST_ROWS))
    return manifest


def read_material(question: str) -> dict[str, str]:
    """The texts that a judge is shown."""
    return json.loads(question.rpartition("\n")[2])


def is_trial(question: str) -> bool:
    """Whether the judge is being measured: it is shown no reference."""
    return "reference" not in read_material(question)


def judge_well(call: Call) -> Reply:
    """Knows the right answers, and of two wrong ones prefers the longer."""
    material = read_material(call.question)
    truth = find_place(int(material["input"].rpartition(" ")[2]))

    def grade(text: str) -> tuple[bool, int]:
        return text == truth, len(text)

    first, second = grade(material["A"]), grade(material["B"])
    label = "tie" if first == second else "A" if first > second else "B"
    return Reply(json.dumps([{"reason": f"It is {truth}. <b>", "label": label}]))


def judge_by_place(call: Call) -> Reply:
    """Prefers whatever is shown first."""
    return Reply(json.dumps([{"reason": "It came first.", "label": "A"}]))
