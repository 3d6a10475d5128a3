"""How long a user waits for an answer: --help, validate, plan; and from `run` to the first step.

    python benchmarks/startup.py

Prints the median seconds of 5 starts of each command, beside the same for `python -c pass`, and
for one run of a tiny job the seconds of each part before the first optimizer step.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.tools.tiny_job import LOAM, find_run, run_cold_loam, write_job

NUM_STARTS = 5


def time_command(command: list[str]) -> float:
    """Median seconds of a few starts."""
    seconds = []
    for _ in range(NUM_STARTS):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def describe_first_step(folder: Path) -> list[tuple[str, float]]:
    """Seconds from the run's start to the ends of its parts, until the first step."""
    started = time.time()
    done = run_cold_loam("run", str(folder / "job.yaml"), cache=folder / "cache")
    if done.returncode:
        raise SystemExit(done.stderr)
    (log,) = find_run(folder).glob("logs/*/log.jsonl")
    marks = []
    for event in map(json.loads, log.read_text().splitlines()):
        seconds = datetime.fromisoformat(event["ts"]).timestamp() - started
        if event["event"] == "run_started":
            marks.append(("process up, inputs hashed, lock taken", seconds))
        elif event["event"] == "stage_ended":
            marks.append((f"stage {event['stage']} done", seconds))
        elif event["event"] == "training_started":
            marks.append(("Ray up, workers and model loaded", seconds))
        elif event["event"] == "step":
            return [*marks, ("first optimizer step done", seconds)]
    raise SystemExit("the run took no step")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        manifest = write_job(Path(scratch))
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "loam --help": [*LOAM, "--help"],
            "loam validate": [*LOAM, "validate", str(manifest)],
            "loam plan": [*LOAM, "plan", str(manifest)],
        }
        for name, command in commands.items():
            print(f"{name:16} {time_command(command):.2f} s", flush=True)
        before = 0.0
        for name, seconds in describe_first_step(Path(scratch)):
            print(f"{seconds:7.1f} s  (+{seconds - before:.1f})  {name}")
            before = seconds


if __name__ == "__main__":
    main()
