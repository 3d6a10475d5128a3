"""The process that vLLM runs in: what it is told, how it ends, and what its end says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.tools.waiting import wait_until

from loam_runtime.errors import LoamError
from loam_runtime.models import vllm_process
from loam_runtime.models.pool import ReplicaLost
from loam_runtime.models.vllm_process import VllmProcess

WORKER = [sys.executable, "-P", str(Path(vllm_process.__file__).with_name("vllm_worker.py"))]


@pytest.fixture
def start(tmp_path: Path, request: pytest.FixtureRequest):
    """Starts a process whose program is given."""

    def start_program(body: str) -> VllmProcess:
        program = tmp_path / "python"
        program.write_text(f"#!{sys.executable}\nimport json, os, sys\n{body}\n", encoding="utf-8")
        program.chmod(0o755)
        process = VllmProcess(str(program), num_threads=3)
        request.addfinalizer(process.stop)
        return process

    return start_program


def test_it_is_given_no_secret(start, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM is large, is another team's, and logs its environment: storage keys are not for it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("OPENAI_API_KEY", "hidden")
    monkeypatch.setenv("PYTHONPATH", "/opt/loam/lib")  # Loam's torch is not vLLM's
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    process = start("sys.stdin.readline()\nprint(json.dumps({'result': dict(os.environ)}))")
    environment = process.ask("probe")
    assert "hidden" not in environment.values()
    assert "PYTHONPATH" not in environment
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["HF_HUB_OFFLINE"] == "1"


def test_a_refusal_is_an_error_and_the_process_goes_on(start) -> None:
    """A prompt that is too long is the reader's to mend; another worker would refuse it as well."""
    process = start(
        "for line in sys.stdin:\n"
        "    print(json.dumps({'error': 'the prompt is too long'}), flush=True)"
    )
    for _ in range(2):
        with pytest.raises(LoamError, match="the prompt is too long"):
            process.ask("answer", requests=[])


@pytest.mark.parametrize("before", ["", "sys.stdin.readline()\n", "print('{\"resul', end='')\n"])
def test_an_end_at_any_time_is_a_loss_with_its_last_words(start, before: str) -> None:
    """Killed for memory, it is started anew (`ReplicaLost`); half an answer is none."""
    process = start(f"{before}print('CUDA out of memory', file=sys.stderr)\nsys.exit(7)")
    with pytest.raises(ReplicaLost, match=r"ended with 7: CUDA out of memory"):
        process.ask("answer", requests=[])


def test_a_stop_ends_a_question_that_waits(start) -> None:
    """A job that is told to go does not wait for the rows of a batch."""
    process = start(
        "sys.stdin.readline()\nprint('busy', file=sys.stderr, flush=True)\nsys.stdin.readline()"
    )
    losses: list[BaseException] = []

    def ask() -> None:
        try:
            process.ask("answer", requests=[])
        except ReplicaLost as exc:
            losses.append(exc)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: os.fstat(process._log.fileno()).st_size, "the question is read")
    process.stop()
    asking.join(timeout=10)
    assert len(losses) == 1


def test_vllms_side_ends_with_its_input() -> None:
    """A parent that is killed can end nobody: its child would keep the GPU from the next job."""
    worker = subprocess.Popen(WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.communicate(timeout=30) == (b"", None)
    assert worker.returncode == 0


def test_vllms_side_refuses_in_words(tmp_path: Path) -> None:
    """What vLLM refuses is answered on the channel; what it prints does not get in between."""
    package = tmp_path / "vllm"
    package.mkdir()
    (package / "__init__.py").write_text(
        "print('INFO: loading', flush=True)\n"
        "EngineArgs = dict\n"
        "class LLMEngine:\n"
        "    def from_engine_args(arguments):\n"
        "        raise ValueError(f\"no {arguments['model']}\")\n"
    )
    worker = subprocess.Popen(
        WORKER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(tmp_path)},
        text=True,
    )
    worker.stdin.write(json.dumps({"operation": "load", "model": "such"}) + "\n")
    worker.stdin.flush()
    assert json.loads(worker.stdout.readline()) == {"error": "no such"}
    worker.communicate(timeout=30)
