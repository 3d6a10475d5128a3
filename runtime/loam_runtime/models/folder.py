"""From what the user names to a folder that transformers loads: checks, and the .gguf way."""

from __future__ import annotations

from pathlib import Path

from loam_runtime.errors import InputError
from loam_runtime.models.checks import check_model_folder
from loam_runtime.models.files import open_local_model


def prepare_model_folder(path: Path) -> Path:
    """A folder with config.json, safetensors and tokenizer for the model at `path`.

    A folder of safetensors is returned as it is. A .gguf file, or a folder that holds one, is
    converted once into the cache, by content; this takes about a minute for 270 M parameters.

    Raises:
        InputError: something is missing, or the weights are pickled.
    """
    if not path.exists():
        raise InputError(f"There is no model at {path}.", remedy="Check model.uri.")
    is_folder = path.is_dir() and (path / "config.json").is_file()
    name = None if is_folder else open_local_model(path).find_gguf()
    if name is not None:
        from loam_runtime.models.gguf import convert_gguf

        return convert_gguf(path if path.is_file() else path / name)
    check_model_folder(path)
    return path
