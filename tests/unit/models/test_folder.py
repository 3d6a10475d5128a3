"""What is checked of a model folder before anything heavy starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from loam_runtime.errors import InputError
from loam_runtime.models.folder import prepare_model_folder


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def remove(folder: Path, pattern: str) -> None:
    for file in folder.glob(pattern):
        file.unlink()


def test_a_whole_folder_is_taken_as_it_is(folder: Path) -> None:
    """A folder of safetensors is neither copied nor converted."""
    assert prepare_model_folder(folder) == folder


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no model at .*absent"):
        prepare_model_folder(tmp_path / "absent")


def test_a_model_without_tokenizer_is_refused(folder: Path) -> None:
    """Found now, not after the data has been made: nothing can be trained without one."""
    remove(folder, "tokenizer*")
    with pytest.raises(InputError, match="has no tokenizer") as caught:
        prepare_model_folder(folder)
    assert "save_pretrained" in caught.value.remedy


def test_a_model_without_config_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"no config\.json"):
        prepare_model_folder(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickled_weights_are_refused(folder: Path, name: str) -> None:
    """Unpickling runs whatever code the file holds."""
    remove(folder, "*.safetensors")
    (folder / name).write_bytes(b"x")
    with pytest.raises(InputError, match=f"pickled weights only \\({name}\\)") as caught:
        prepare_model_folder(folder)
    assert "safetensors" in caught.value.remedy


def test_a_model_without_weights_is_refused(folder: Path) -> None:
    remove(folder, "*.safetensors")
    with pytest.raises(InputError, match=r"no \.safetensors weights"):
        prepare_model_folder(folder)


def test_missing_shards_are_counted_and_named(folder: Path) -> None:
    """A copy that stopped half-way is told apart from a model that was never there."""
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    (folder / weights["a"]).write_bytes(b"")
    with pytest.raises(InputError, match=r"lacks 1 of 2 weight files: model-00002-of-00002"):
        prepare_model_folder(folder)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"neither a folder nor a \.gguf"):
        prepare_model_folder(path)


def test_several_gguf_files_are_ambiguous(tmp_path: Path) -> None:
    """Which of them is trained is the user's to say."""
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"2 \.gguf files: a\.gguf, b\.gguf"):
        prepare_model_folder(tmp_path)
