"""Who runs the base model that writes rows: vLLM only where it surely can, and it is told why."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from loam_runtime.models.vllm_choice import VARIABLE, choose_engine

FOUND = {"version": "0.32.0", "device": "cpu", "architectures": ["Gemma3ForCausalLM"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    write_config(tmp_path / "model", {"architectures": ["Gemma3ForCausalLM"]})
    return tmp_path / "model"


def write_config(folder: Path, config: dict[str, object]) -> None:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """An interpreter whose vLLM answers as `body` does."""
    program = folder / "python"
    program.write_text(f"#!{sys.executable}\nimport json, sys\n{body}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(program))


def find(folder: Path, monkeypatch: pytest.MonkeyPatch, **found: object) -> None:
    answer = json.dumps({"result": {**FOUND, **found}})
    install(folder, monkeypatch, f"sys.stdin.readline()\nprint({answer!r})")


def test_vllm_is_taken_where_it_knows_the_model(folder: Path, monkeypatch) -> None:
    """Else a platform team that installs it would wonder why nothing is faster."""
    find(folder, monkeypatch)
    engine = choose_engine(folder, "cpu")
    assert (engine.name, engine.python) == ("vllm", os.environ[VARIABLE])
    assert "0.32.0" in engine.reason


def test_without_the_variable_nothing_is_started(folder: Path, monkeypatch) -> None:
    """An image without vLLM writes with transformers, and says so."""
    monkeypatch.delenv(VARIABLE, raising=False)
    engine = choose_engine(folder, "cpu")
    assert (engine.name, engine.python) == ("transformers", "")
    assert VARIABLE in engine.reason


@pytest.mark.parametrize(
    ("found", "device", "said"),
    [
        ({}, "cuda", "is for cpu"),
        ({"device": ""}, "cuda", "is for no device here"),
        ({"architectures": ["LlamaForCausalLM"]}, "cpu", "Gemma3ForCausalLM"),
    ],
)
def test_vllm_that_cannot_run_the_model_is_left(
    folder: Path, monkeypatch, found: dict[str, object], device: str, said: str
) -> None:
    """It would fail on every worker, after the job has waited for its GPUs."""
    find(folder, monkeypatch, **found)
    engine = choose_engine(folder, device)
    assert engine.name == "transformers"
    assert said in engine.reason


def test_a_quantized_base_is_left_to_transformers(folder: Path, monkeypatch) -> None:
    """Two libraries read 4 bits differently: teacher and student would be two models."""
    find(folder, monkeypatch)
    write_config(folder, {"architectures": ["Gemma3ForCausalLM"], "quantization_config": {}})
    assert choose_engine(folder, "cpu").name == "transformers"


def test_a_broken_installation_is_told_and_left(folder: Path, monkeypatch, tmp_path: Path) -> None:
    """An image with a wrong library does not end jobs that can do without."""
    install(folder, monkeypatch, "sys.exit('libcudart.so.13: cannot open')")
    assert "libcudart.so.13" in choose_engine(folder, "cpu").reason
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    assert "not a program" in choose_engine(folder, "cpu").reason
    monkeypatch.setenv(VARIABLE, sys.executable)  # with the script that vLLM's one runs
    engine = choose_engine(folder, "cpu")
    assert engine.name == "transformers"
    assert "No module named 'vllm'" in engine.reason
