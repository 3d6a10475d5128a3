"""Answers a second of a base model that is its own teacher, on one worker and on several.

    python benchmarks/self_teacher.py MODEL_FOLDER [--workers 1 2] [--answers 256] [--passes 3]

Each number of workers first answers a pass that is not counted, in which all of them come up: let
it take longer than a worker's start, half a minute. On a machine without GPUs the workers share
its cores: there the ratio says what two processes with half the threads gain over one with all.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.tools.tiny_job import write_job

from loam_runtime.manifest import load_manifest
from loam_runtime.observability.monitor import NullMonitor
from loam_runtime.sources import fetch_sources
from loam_runtime.steps.context import InputContext
from loam_runtime.steps.synthesize import open_teacher
from loam_runtime.synthesis.budget import BudgetLedger
from loam_runtime.synthesis.client import TeacherClient
from loam_runtime.synthesis.exchange import TeacherRequest
from loam_runtime.synthesis.journal import Journal
from loam_runtime.synthesis.teachers import Teacher

QUESTION = "Messages of customers of an online shop.\n\n" + "- where is my parcel?\n" * 8 + "-"


def build_context(folder: Path, model: Path, num_workers: int) -> InputContext:
    """A job whose base model writes rows."""
    manifest = write_job(
        folder,
        model={"uri": f"file://{model.resolve()}"},
        synthesis={"strategy": "inContext", "targetCount": 1, "teacher": {"kind": "self"}},
        compute={"workers": {"min": 1, "max": num_workers}},
    )
    job = load_manifest(manifest)
    return InputContext(job, folder, fetch_sources(job.spec, folder))


def make_requests(first: int, count: int) -> list[TeacherRequest]:
    """Draws of one question, 32 tokens at most."""
    return [
        TeacherRequest((("user", QUESTION),), max_tokens=32, stop=("\n",), draw=first + number)
        for number in range(count)
    ]


async def time_answers(teacher: Teacher, journal_dir: Path, passes: int, count: int) -> list[float]:
    """Seconds of each pass; the first one is not counted."""
    seconds = []
    async with Journal(journal_dir, "benchmark") as journal:
        client = TeacherClient(teacher, journal, BudgetLedger())
        for number in range(passes + 1):
            started = time.perf_counter()
            await client.ask_many(make_requests(number * count, count))
            seconds.append(time.perf_counter() - started)
        await teacher.close()
    return seconds[1:]


def measure_rate(model: Path, num_workers: int, passes: int, count: int) -> float:
    """Answers a second, the median of the passes."""
    with tempfile.TemporaryDirectory() as scratch:
        context = build_context(Path(scratch), model, num_workers)
        with open_teacher(context, NullMonitor()) as teacher:
            seconds = asyncio.run(time_answers(teacher, Path(scratch) / "journal", passes, count))
    return count / statistics.median(seconds)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="folder of safetensors, or a .gguf file")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--answers", type=int, default=256, help="of one pass")
    parser.add_argument("--passes", type=int, default=3)
    return parser.parse_args(arguments)


def main() -> None:
    given = parse_arguments()
    first = 0.0
    for num_workers in given.workers:
        rate = measure_rate(given.model, num_workers, given.passes, given.answers)
        first = first or rate
        print(f"workers: {num_workers}  {rate:8.2f} answers/s  {rate / first:5.2f}x", flush=True)


if __name__ == "__main__":
    main()
