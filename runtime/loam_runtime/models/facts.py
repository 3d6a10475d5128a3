"""What a plan needs to know of a model, read from its headers without torch."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from loam_runtime.errors import InputError
from loam_runtime.models.gguf_header import read_gguf_header

_CONVERTED_BYTES_PER_PARAMETER = 2  # a .gguf is converted to bfloat16


def read_model_facts(path: Path) -> dict[str, Any]:
    """Sizes of the model at `path`: a folder of safetensors, a .gguf, or a folder holding one.

    Returns:
        model_type, num_parameters, weight_bytes (as stored, a .gguf as converted), hidden_size,
        num_layers, vocab_size, intermediate_size, num_attention_heads, num_key_value_heads,
        head_dim, tie_word_embeddings, max_position_embeddings. 0 where the model does not say.

    Raises:
        InputError: the files cannot be read as a model's.
    """
    if path.is_dir() and (path / "config.json").is_file():
        return _read_folder(path)
    if gguf := find_gguf(path):
        return _read_gguf(gguf)
    raise InputError(
        f"{path} has neither config.json nor a .gguf file.",
        remedy="Point model.uri at a folder written by save_pretrained, or at one .gguf file.",
    )


def find_gguf(path: Path) -> Path | None:
    """The .gguf at `path`, or the only one in the folder `path`; None where there is none.

    Raises:
        InputError: the folder holds several.
    """
    if path.is_file():
        return path if path.suffix == ".gguf" else None
    found = sorted(path.glob("*.gguf"))
    if len(found) > 1:
        raise InputError(
            f"{path} holds {len(found)} .gguf files: {', '.join(file.name for file in found[:5])}.",
            remedy="Name one of them in model.uri.",
        )
    return found[0] if found else None


def _read_folder(folder: Path) -> dict[str, Any]:
    config = read_config(folder)
    text = config.get("text_config", config)
    heads = text.get("num_attention_heads", 0)
    num_parameters, weight_bytes = _measure_safetensors(folder)
    hidden_size = text.get("hidden_size", 0)
    return {
        "model_type": config.get("model_type", ""),
        "num_parameters": num_parameters,
        "weight_bytes": weight_bytes,
        "hidden_size": hidden_size,
        "num_layers": text.get("num_hidden_layers", 0),
        "vocab_size": text.get("vocab_size", 0),
        "intermediate_size": text.get("intermediate_size", 0),
        "num_attention_heads": heads,
        "num_key_value_heads": text.get("num_key_value_heads") or heads,
        "head_dim": text.get("head_dim") or hidden_size // max(heads, 1),
        "tie_word_embeddings": config.get("tie_word_embeddings", True),
        "max_position_embeddings": text.get("max_position_embeddings", 0),
    }


def read_config(folder: Path) -> dict[str, Any]:
    """The model's config.json.

    Raises:
        InputError: it is not there, or not JSON.
    """
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InputError(
            f"{folder / 'config.json'} cannot be read: {exc}.",
            remedy="Write the model again with save_pretrained.",
        ) from exc


def _measure_safetensors(folder: Path) -> tuple[int, int]:
    """Number of parameters and bytes of all tensors of the folder."""
    num_parameters = num_bytes = 0
    for file in sorted(folder.glob("*.safetensors")):
        for tensor in _read_safetensors_header(file).values():
            begin, end = tensor["data_offsets"]
            num_parameters += math.prod(tensor["shape"])
            num_bytes += end - begin
    return num_parameters, num_bytes


def _read_safetensors_header(file: Path) -> dict[str, Any]:
    """Name -> dtype, shape and offsets. Layout: 8 bytes of length, then that much JSON."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > file.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(length))
    except (OSError, ValueError, struct.error) as exc:
        raise InputError(
            f"{file} is not a readable safetensors file: {exc}.", remedy="Copy it again."
        ) from exc
    header.pop("__metadata__", None)
    return header


def _read_gguf(path: Path) -> dict[str, Any]:
    header = read_gguf_header(path)
    architecture = header.metadata.get("general.architecture", "")

    def get(name: str) -> int:
        return header.metadata.get(f"{architecture}.{name}", 0)

    heads, hidden_size = get("attention.head_count"), get("embedding_length")
    shapes = header.tensor_shapes
    num_parameters = sum(math.prod(shape) for shape in shapes.values())
    return {
        "model_type": architecture,
        "num_parameters": num_parameters,
        "weight_bytes": num_parameters * _CONVERTED_BYTES_PER_PARAMETER,
        "hidden_size": hidden_size,
        "num_layers": get("block_count"),
        "vocab_size": shapes.get("token_embd.weight", (0, 0))[-1],
        "intermediate_size": get("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv") or heads,
        "head_dim": get("attention.key_length") or hidden_size // max(heads, 1),
        "tie_word_embeddings": "output.weight" not in shapes,
        "max_position_embeddings": get("context_length"),
    }
