"""A whole job small enough to run in seconds: tiny model, made-up rows, a scripted teacher."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from tests.tools import warm_loam
from tests.tools.fault_teacher import Call, Reply
from tests.tools.tiny_models import build_tiny_model

END_SECONDS = 600  # until a job is over; a guard against hangs on a machine of any speed
# As a shell would start it; arguments follow.
LOAM = [sys.executable, "-c", "from loam_runtime.cli import main; main()"]
SUBJECTS = ("parcel", "invoice", "login", "jacket", "refund", "charger", "account", "tent")
MOODS = {"praise": ("love", "great", "thanks"), "complaint": ("broken", "late", "angry")}


def write_rows(path: Path, num_per_label: int, seed: int) -> None:
    """Labelled rows, no two alike for different seeds."""
    rng = random.Random(seed)
    rows = [
        {
            "text": f"{rng.choice(words)} {rng.choice(SUBJECTS)} {seed}-{index}",
            "label": label,
        }
        for label, words in MOODS.items()
        for index in range(num_per_label)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_job(folder: Path, *, name: str = "tiny", **changes: Any) -> Path:
    """Write model, rows and manifest into `folder`; returns the manifest's path.

    Args:
        changes: blocks of the spec that replace the default ones, e.g. training={...}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    build_tiny_model(folder / "model")
    write_rows(folder / "seeds.jsonl", 12, seed=1)
    write_rows(folder / "test.jsonl", 30, seed=2)
    spec = {
        "model": {"uri": "file://./model"},
        "data": {
            "task": "classification",
            "seeds": {"uri": "file://./seeds.jsonl"},
            "test": {"uri": "file://./test.jsonl"},
        },
        "training": {
            "method": "lora",
            "learningRate": 0.01,
            "epochs": 6,
            "globalBatch": 8,
            "checkpoint": {"everySeconds": 0},
        },
        "evaluation": {"inContextShots": 1, "maxNewTokens": 4},
        "output": {"uri": "file://./output"},
        **changes,
    }
    manifest = folder / "job.yaml"
    document = {
        "apiVersion": "loam.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": spec,
    }
    manifest.write_text(yaml.safe_dump(document))
    return manifest


def write_examples(call: Call) -> Reply:
    """A teacher that answers each question in its own way, and always the same."""
    digest = hashlib.sha256(call.question.encode()).hexdigest()
    rows = [{"input": f"{digest[i * 6 : i * 6 + 6]} parcel number {i}"} for i in range(5)]
    return Reply(json.dumps(rows))


def start_loam(*arguments: str, cache: Path, **environment: str) -> subprocess.Popen[str]:
    """A `loam` process, its output on pipes, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-S", "-E", str(warm_loam.__file__), _find_warm_server(), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LOAM_CACHE": str(cache), **environment},
        process_group=0,
    )


@functools.cache
def _find_warm_server() -> str:
    """Address of a server that lives as long as this process."""
    address = f"{tempfile.mkdtemp(prefix='loam-warm-')}/socket"
    server = subprocess.Popen(
        [
            "setpriv",
            "--pdeathsig",
            "KILL",
            sys.executable,
            "-P",
            warm_loam.__file__,
            "serve",
            address,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert server.stdout
    assert server.stdout.readline() == b"ready\n"
    return address


def run_loam(*arguments: str, cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `loam` to its end."""
    with start_loam(*arguments, cache=cache, **environment) as process:
        output, errors = process.communicate(timeout=END_SECONDS)
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


def run_cold_loam(
    *arguments: str, cache: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `loam` as a shell would: all its libraries are imported anew, in this environment."""
    return subprocess.run(
        [*LOAM, *arguments],
        capture_output=True,
        text=True,
        timeout=END_SECONDS,
        env={**os.environ, "LOAM_CACHE": str(cache), **environment},
    )


def find_run(folder: Path) -> Path:
    """The folder of the one run under `folder`/output."""
    (run,) = (folder / "output" / "runs").iterdir()
    return run
