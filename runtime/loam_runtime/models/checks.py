"""Whether a model folder holds all that transformers needs, found out before anything heavy."""

from __future__ import annotations

import json
from pathlib import Path

from loam_runtime.errors import InputError

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def check_model_folder(folder: Path) -> None:
    """Check that everything a model needs is there, before anything heavy starts.

    Raises:
        InputError: names what is missing and how to get it.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder} is neither a folder nor a .gguf file.",
            remedy="Point model.uri at a folder written by save_pretrained, or at one .gguf file.",
        )
    if not (folder / "config.json").is_file():
        raise InputError(
            f"The model folder {folder} has no config.json.",
            remedy="Write the whole model with save_pretrained, or name a .gguf file.",
        )
    _check_weights(folder)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise InputError(
            f"The model folder {folder} has no tokenizer (none of {', '.join(_TOKENIZER_FILES)}).",
            remedy="Save the model's tokenizer into the same folder with save_pretrained.",
        )


def _check_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        missing = sorted(shard for shard in shards if not (folder / shard).is_file())
        if missing:
            raise InputError(
                f"The model folder {folder} lacks {len(missing)} of {len(shards)} weight files: "
                f"{', '.join(missing[:5])}.",
                remedy="Copy them from where the model came from.",
            )
    elif not any(folder.glob("*.safetensors")):
        pickled = sorted(file.name for kind in _PICKLE_PATTERNS for file in folder.glob(kind))
        if pickled:
            raise InputError(
                f"The model folder {folder} has pickled weights only ({', '.join(pickled[:5])}); "
                "loading them could run code hidden inside, so Loam does not.",
                remedy="Load them where you trust them and write safetensors with save_pretrained.",
            )
        raise InputError(
            f"The model folder {folder} has no .safetensors weights.",
            remedy="Copy them from where the model came from.",
        )
