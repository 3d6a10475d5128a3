"""A whole job with a teacher in batch mode: from seeds to the adapter, through what batches do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.tools.batch_server import BatchServer, serve_batches
from tests.tools.fault_teacher import Call
from tests.tools.tiny_job import find_run, run_loam, start_loam, write_examples, write_job
from tests.tools.waiting import wait_until

from loam_runtime import cli
from loam_runtime.data.tables import read_table
from loam_runtime.export.manifest import verify_manifest

pytestmark = pytest.mark.usefixtures("without_ray")

# A line costs 40 tokens of prompt and 20 of answer.
PRICES = {"prompt": 1000, "completion": 3000}
COST_OF_A_LINE = 0.1
ANSWERED_OF_THE_PILOT = 1
NUM_WANTED = 10


def answer_question(question: str) -> str:
    """Rows for a request, always the same ones."""
    return write_examples(Call(question, attempt=0, number=0, body={})).text


def write_batch_job(folder: Path, server: BatchServer, **synthesis: Any) -> Path:
    """A tiny job that asks for rows alone, in batches."""
    server.write = answer_question
    openai = {"baseURL": server.base_url, "model": "m", "mode": "batch", "prices": PRICES}
    block = {
        "targetCount": NUM_WANTED,
        "teacher": {"kind": "openai", "openai": openai},
        "filters": {"consistency": {"enabled": False}},
        **synthesis,
    }
    training = {"method": "lora", "learningRate": 0.01, "epochs": 1, "globalBatch": 8}
    evaluation = {"baselines": ["majority"], "maxNewTokens": 4}
    return write_job(folder, synthesis=block, training=training, evaluation=evaluation)


def test_from_seeds_to_the_adapter(tmp_path: Path) -> None:
    """Killed while its batch is at the provider, the same command waits for that batch; what it
    did not answer before it expired is asked again; and the adapter is published. No line is
    answered twice: a batch is paid by the line, a day after it was sent."""
    with serve_batches() as server:
        manifest = write_batch_job(tmp_path, server)
        server.is_held = True
        server.answered_before_expiry = ANSWERED_OF_THE_PILOT
        with start_loam("run", str(manifest), cache=tmp_path / "cache") as process:
            wait_until(lambda: _is_waiting(server, process), "the batch to be waited for")
            os.killpg(process.pid, signal.SIGKILL)
        assert list(server.batches) == ["batch-0"]
        server.is_held = False
        done = run_loam("run", str(manifest), cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert server.batches["batch-0"]["status"] == "expired"
    assert {batch["status"] for batch in list(server.batches.values())[1:]} == {"completed"}
    assert set(server.answered.values()) == {1}
    run = find_run(tmp_path)
    assert "adapter/adapter_model.safetensors" in verify_manifest(run)["files"]
    report = json.loads((run / "report.json").read_text())
    facts = {fact["name"]: fact["value"] for fact in report["usage"]}
    assert facts["teacher cost"] == f"{server.num_answered * COST_OF_A_LINE:.4f}"
    assert len(read_table(run / "data" / "synthetic.parquet")) == NUM_WANTED


def _is_waiting(server: BatchServer, process: subprocess.Popen[str]) -> bool:
    """Whether the job looks at a batch of its own; a job that has ended says why."""
    assert process.poll() is None, process.stderr.read()
    return server.looked.is_set()


def test_budget_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a batch that the budget does not hold, the provider gets to see what it holds; raised, the
    same command submits the rest alone."""
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))
    small, large = ({"targetCount": 30, "budget": {"maxRequests": most}} for most in (2, 50))

    def synthesize(manifest: Path) -> int:
        command = ["loam", "synthesize", str(manifest), "-o", str(tmp_path / "rows.jsonl")]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0)

    with serve_batches() as server:
        assert synthesize(write_batch_job(tmp_path, server, **small)) == 13
        assert "2 of 2 requests" in capsys.readouterr().err
        assert server.num_answered == 2
        assert synthesize(write_batch_job(tmp_path, server, **large)) == 0
    assert set(server.answered.values()) == {1}
    assert server.num_answered > 2
    assert "30 of 30 wanted" in capsys.readouterr().out
