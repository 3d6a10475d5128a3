"""Answers a second of a base model that is its own teacher, on one worker and on several.

    python benchmarks/self_teacher.py MODEL_FOLDER [--workers 1 2] [--answers 256] [--passes 3]
        [--vllm PYTHON]

With `--vllm` each number of workers is measured with transformers and with vLLM, pass by pass in
turn: PYTHON is the interpreter of an environment that has it.

Each number of workers first answers a pass that is not counted, in which all of them come up: let
it take longer than a worker's start, half a minute. On a machine without GPUs the workers share
its cores: there the ratio says what two processes with half the threads gain over one with all.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.tools.tiny_job import write_job

from loam_runtime.manifest import load_manifest
from loam_runtime.models.vllm_choice import VARIABLE, choose_engine
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


async def time_answers(
    teachers: Sequence[Teacher], journal_dir: Path, passes: int, count: int
) -> list[list[float]]:
    """Seconds of each teacher's passes; the first one is not counted."""
    seconds: list[list[float]] = [[] for _ in teachers]
    async with Journal(journal_dir, "benchmark") as journal:
        clients = [TeacherClient(teacher, journal, BudgetLedger()) for teacher in teachers]
        for number in range(passes + 1):
            for client, times in zip(clients, seconds, strict=True):
                started = time.perf_counter()
                await client.ask_many(make_requests(number * count, count))
                times.append(time.perf_counter() - started)
        for teacher in teachers:
            await teacher.close()
    return [times[1:] for times in seconds]


@contextmanager
def open_engine(context: InputContext, python: str) -> Iterator[Teacher]:
    """The job's teacher by vLLM, or by transformers where `python` is empty."""
    os.environ[VARIABLE] = python
    with open_teacher(context, NullMonitor()) as teacher:
        if python and teacher.endpoint == "self":
            sys.exit(choose_engine(context.model_folder, context.device).reason)
        yield teacher


def measure_rates(
    model: Path, num_workers: int, pythons: Sequence[str], passes: int, count: int
) -> list[float]:
    """Answers a second of each engine, the median of the passes."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        context = build_context(Path(scratch), model, num_workers)
        teachers = [stack.enter_context(open_engine(context, python)) for python in pythons]
        seconds = asyncio.run(time_answers(teachers, Path(scratch) / "journal", passes, count))
    return [count / statistics.median(times) for times in seconds]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="folder of safetensors, or a .gguf file")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--answers", type=int, default=256, help="of one pass")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--vllm", metavar="PYTHON", help="measure vLLM as well")
    return parser.parse_args(arguments)


def main() -> None:
    given = parse_arguments()
    engines = {"transformers": ""} | ({"vllm": given.vllm} if given.vllm else {})
    first = 0.0
    for num_workers in given.workers:
        pythons = list(engines.values())
        rates = measure_rates(given.model, num_workers, pythons, given.passes, given.answers)
        for engine, rate in zip(engines, rates, strict=True):
            first = first or rate
            times = f"{rate:8.2f} answers/s  {rate / first:5.2f}x"
            print(f"workers: {num_workers}  {engine:<12}  {times}", flush=True)


if __name__ == "__main__":
    main()
