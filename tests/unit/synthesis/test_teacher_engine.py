"""A job whose base model writes rows: by whom, and what happens when vLLM does not come up."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.tools.tiny_job import write_job

from loam_runtime.errors import LoamError
from loam_runtime.manifest import load_manifest
from loam_runtime.models.vllm_choice import VARIABLE
from loam_runtime.observability.monitor import NullMonitor
from loam_runtime.sources import fetch_sources
from loam_runtime.steps.context import InputContext
from loam_runtime.steps.synthesize import open_teacher

# Answers a probe and ends at all else, as a process does that is killed for memory.
DYING = """#!{python}
import json, sys
found = {{"version": "0.32.0", "device": "cpu", "architectures": ["Gemma3ForCausalLM"]}}
if json.loads(sys.stdin.readline())["operation"] == "probe":
    print(json.dumps({{"result": found}}))
else:
    sys.exit("out of memory")
"""


class Log(NullMonitor):
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def log(self, event: str, /, **fields: object) -> None:
        self.events.append((event, fields))


@pytest.fixture
def context(tmp_path: Path) -> InputContext:
    synthesis = {"strategy": "inContext", "targetCount": 1, "teacher": {"kind": "self"}}
    job = load_manifest(write_job(tmp_path, synthesis=synthesis, compute={"device": "cpu"}))
    return InputContext(job, tmp_path, fetch_sources(job.spec, tmp_path))


def test_the_log_says_who_writes(context: InputContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows by transformers and by vLLM differ: without this nobody could say why."""
    monkeypatch.delenv(VARIABLE, raising=False)
    log = Log()
    with open_teacher(context, log) as teacher:
        assert teacher.endpoint == "self"
    ((event, fields),) = log.events
    assert (event, fields["engine"]) == ("teacher_engine", "transformers")
    assert VARIABLE in str(fields["message"])


def test_a_vllm_that_dies_ends_the_job_with_its_words(
    context: InputContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is started anew a few times and not for ever, and each loss is told. To go on with
    transformers, on some workers or after some rows, would mix two kinds of rows."""
    program = tmp_path / "python"
    program.write_text(DYING.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(program))
    log = Log()
    with open_teacher(context, log) as teacher:
        assert teacher.endpoint == "self, vllm"
        assert teacher.language_model is not None
        with pytest.raises(LoamError, match="lost 4 times"):
            teacher.language_model.generate([[5, 6]], max_new_tokens=1)
    assert [event for event, _ in log.events] == ["teacher_engine", *["worker_lost"] * 4]
    assert "out of memory" in json.dumps(log.events[-1][1])
