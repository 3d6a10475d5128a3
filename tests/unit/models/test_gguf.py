"""A conversion happens once and whole, whoever is killed and however many ask for it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from loam_runtime.errors import InputError
from loam_runtime.models import gguf


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to convert, with a cache of its own."""
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF content")
    return path


def count_conversions(folder: Path) -> int:
    return len((folder / "runs").read_text()) if (folder / "runs").exists() else 0


def install_converter(monkeypatch: pytest.MonkeyPatch, folder: Path, whole: Path) -> None:
    """Stand in for the minute that transformers takes: copies a tiny model, and counts."""

    def write(path: Path, target: Path) -> None:
        with (folder / "runs").open("a") as file:
            file.write("x")
        shutil.copytree(whole, target, dirs_exist_ok=True)

    monkeypatch.setattr(gguf, "_write_safetensors", write)


def test_equal_content_is_converted_once(
    source: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a second call nor the same file under another name waits a minute again."""
    install_converter(monkeypatch, tmp_path, tiny_folder)
    first = gguf.convert_gguf(source)
    copy = tmp_path / "copy.gguf"
    shutil.copy(source, copy)
    assert gguf.convert_gguf(source) == gguf.convert_gguf(copy) == first
    assert count_conversions(tmp_path) == 1
    source.write_bytes(b"GGUF other content")
    assert gguf.convert_gguf(source) != first


def test_a_failed_conversion_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder in the cache is a whole one: half a model would be trained on."""

    def fail(path: Path, target: Path) -> None:
        (target / "config.json").write_text("{}")
        raise InputError("no")

    monkeypatch.setattr(gguf, "_write_safetensors", fail)
    with pytest.raises(InputError):
        gguf.convert_gguf(source)
    assert [p for p in (tmp_path / "cache" / "models").iterdir() if p.is_dir()] == []


def _convert(source: Path) -> None:
    gguf.convert_gguf(source)


def _die_half_way(source: Path) -> None:
    def write(path: Path, target: Path) -> None:
        (target / "config.json").write_text("{}")
        os.kill(os.getpid(), signal.SIGKILL)

    gguf._write_safetensors = write
    gguf.convert_gguf(source)


def test_a_killed_conversion_is_done_again(
    source: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 half-way leaves neither a half model, nor a lock, nor half a gigabyte of rest."""
    install_converter(monkeypatch, tmp_path, tiny_folder)
    process = multiprocessing.get_context("fork").Process(target=_die_half_way, args=(source,))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    converted = gguf.convert_gguf(source)
    assert (converted / "model.safetensors").is_file()
    folders = [p for p in (tmp_path / "cache" / "models").iterdir() if p.is_dir()]
    assert folders == [converted]


def test_two_processes_convert_once(
    source: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits for the first: two at once need twice the memory and the minute."""
    install_converter(monkeypatch, tmp_path, tiny_folder)
    context = multiprocessing.get_context("fork")
    started, go_on, write = context.Event(), context.Event(), gguf._write_safetensors

    def write_when_told(path: Path, target: Path) -> None:
        write(path, target)
        started.set()
        assert go_on.wait(timeout=60)

    monkeypatch.setattr(gguf, "_write_safetensors", write_when_told)
    first, second = (context.Process(target=_convert, args=(source,)) for _ in range(2))
    first.start()
    assert started.wait(timeout=60)
    second.start()
    second.join(timeout=1)  # time to go wrong: a second that waits is still there, idle
    assert second.is_alive()
    go_on.set()
    for process in (first, second):
        process.join(timeout=60)
        assert process.exitcode == 0
    assert count_conversions(tmp_path) == 1


@pytest.fixture
def second_rank() -> Iterator[None]:
    """This process as the second of two ranks; nobody answers collectives, and nobody needs to."""
    from torch import distributed
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", rank=1, world_size=2, store=FakeStore())
    yield
    distributed.destroy_process_group()


def test_any_rank_converts(tiny_folder: Path, tmp_path: Path, second_rank: None) -> None:
    """A training worker on a machine of its own has a cache of its own, whatever its rank:
    transformers saves on the first rank alone."""
    from transformers import AutoModelForCausalLM

    gguf._save(AutoModelForCausalLM.from_pretrained(tiny_folder), tmp_path / "saved")
    assert (tmp_path / "saved" / "config.json").is_file()
    assert (tmp_path / "saved" / "model.safetensors").is_file()


class _Tokenizer:
    """Says whatever a test wants of a tokenizer."""

    bos_token_id = 2
    eos_token_id = 1

    def __init__(self, ids: list[int], text: str | None = None) -> None:
        self._ids, self._text = ids, text

    def __call__(self, text: str) -> dict[str, list[int]]:
        self._text = text if self._text is None else self._text
        return {"input_ids": self._ids}

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return self._text or ""


@pytest.mark.parametrize(
    ("tokenizer", "problem"),
    [
        (_Tokenizer([2, 2, 5]), "more than one beginning"),
        (_Tokenizer([2, 5], "else"), "does not survive"),
    ],
)
def test_a_tokenizer_that_lost_something_is_refused(tokenizer, problem: str) -> None:
    """A conversion that breaks the tokenizer would train a model on nonsense, in silence."""
    with pytest.raises(InputError, match=problem):
        gguf._check_tokenizer(tokenizer, Path("model.gguf"))


def test_a_tokenizer_without_an_end_is_refused() -> None:
    """Its answers could never end."""
    tokenizer = _Tokenizer([2, 5])
    tokenizer.eos_token_id = None
    with pytest.raises(InputError, match="no end-of-sequence"):
        gguf._check_tokenizer(tokenizer, Path("model.gguf"))
