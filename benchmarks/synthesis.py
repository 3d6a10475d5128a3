"""The teacher client as a contender of a side-by-side benchmark of generation pipelines.

Reads prompts that each ask for one JSON object, brings them to an OpenAI-compatible endpoint
through Loam's client and journal, and writes one line per accepted answer:

    python benchmarks/synthesis.py --base-url URL --n N --concurrency C --out FILE \
        --seeds FILE --work-dir DIR --model NAME

Start it again after a kill with the same arguments, and it goes on from its journal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from loam_runtime.synthesis.budget import BudgetLedger
from loam_runtime.synthesis.client import TeacherClient
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.journal import Journal
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.parsing import parse_objects

MAX_DRAWS = 8  # of one prompt whose answers cannot be used


def read_arguments() -> argparse.Namespace:
    """The arguments that the harness appends."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("base-url", "model"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("out", "seeds", "work-dir"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    for name in ("n", "concurrency"):
        parser.add_argument(f"--{name}", required=True, type=int)
    return parser.parse_args()


def read_row(answer: TeacherAnswer) -> dict[str, str] | None:
    """Instruction and response of an answer, or None where it holds no such row."""
    for value in parse_objects(answer.text, is_complete=answer.is_complete):
        row = {name: value.get(name) for name in ("instruction", "response")}
        if all(isinstance(text, str) and text.strip() for text in row.values()):
            return row
    return None


async def ask_until_usable(
    client: TeacherClient, prompt: str, seen: set[tuple[str, ...]]
) -> dict[str, str] | None:
    """The row of a prompt; an unusable answer is drawn again at once, apart from the others.

    A text that another prompt has brought before is unusable too.
    """
    for draw in range(MAX_DRAWS):
        request = TeacherRequest((("user", prompt),), max_tokens=512, draw=draw)
        answer = await client.ask(request)
        row = read_row(answer) if answer is not None else None
        if row is not None and tuple(row.values()) not in seen:
            seen.add(tuple(row.values()))
            return row
    return None


async def run(arguments: argparse.Namespace) -> None:
    """Ask for all rows and write those that are usable."""
    with arguments.seeds.open(encoding="utf-8") as file:
        seeds = [json.loads(line) for line in file][: arguments.n]
    teacher = OpenAICompatibleTeacher(
        arguments.model, arguments.base_url, "none", concurrency=arguments.concurrency
    )
    async with Journal(arguments.work_dir, "benchmark") as journal:
        client = TeacherClient(teacher, journal, BudgetLedger())
        seen: set[tuple[str, ...]] = set()
        rows = await asyncio.gather(
            *(ask_until_usable(client, seed["prompt"], seen) for seed in seeds)
        )
    await teacher.close()
    with arguments.out.open("w", encoding="utf-8") as file:
        for seed, row in zip(seeds, rows, strict=True):
            if row is not None:
                file.write(json.dumps({"id": seed["id"], **row}) + "\n")


if __name__ == "__main__":
    asyncio.run(run(read_arguments()))
