"""What a plan needs to know of a model, read from its headers without torch."""

from __future__ import annotations

import json
import math
import struct
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from loam_runtime.errors import InputError
from loam_runtime.models.files import ModelFiles, open_local_model
from loam_runtime.models.gguf_header import read_gguf_header

CONFIG_FILE = "config.json"
INDEX_FILE = "model.safetensors.index.json"
WEIGHTS_FILE = "model.safetensors"
_FIRST_BYTES = 64 << 10  # most headers are shorter: one request
_NUM_READERS = 8  # headers of shards read at once
_CONVERTED_BYTES_PER_PARAMETER = 2  # a .gguf is converted to bfloat16


def read_model_facts(path: Path) -> dict[str, Any]:
    """As `measure_model`, of the model at a path of this machine's disk."""
    return measure_model(open_local_model(path))


def measure_model(files: ModelFiles) -> dict[str, Any]:
    """Sizes of a model: a folder of safetensors, a .gguf, or a folder holding one.

    Only headers are read, wherever the files are.

    Returns:
        model_type, num_parameters, weight_bytes (as stored, a .gguf as converted), hidden_size,
        num_layers, vocab_size, intermediate_size, num_attention_heads, num_key_value_heads,
        head_dim, tie_word_embeddings, max_position_embeddings. 0 where the model does not say.

    Raises:
        InputError: the files cannot be read as a model's.
    """
    if files.is_folder and CONFIG_FILE in files.sizes:
        return _read_folder(files)
    if name := files.find_gguf():
        return _read_gguf(files, name)
    raise InputError(
        f"{files} has neither config.json nor a .gguf file.",
        remedy="Point model.uri at a folder written by save_pretrained, or at one .gguf file.",
    )


def _read_folder(files: ModelFiles) -> dict[str, Any]:
    config = _read_json(files, CONFIG_FILE)
    text = config.get("text_config", config)
    heads = text.get("num_attention_heads", 0)
    num_parameters, weight_bytes = _measure_safetensors(files)
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


def _read_json(files: ModelFiles, name: str) -> dict[str, Any]:
    try:
        value = json.loads(files.read(name))
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
    except ValueError as exc:
        raise InputError(
            f"{files.locate(name)} cannot be read: {exc}.",
            remedy="Write the model again with save_pretrained.",
        ) from exc
    return value


def _measure_safetensors(files: ModelFiles) -> tuple[int, int]:
    """Number of parameters and bytes of all tensors of the folder."""
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        headers = list(pool.map(partial(_read_safetensors_header, files), _list_weights(files)))
    tensors = [tensor for header in headers for tensor in header.values()]
    num_parameters = sum(math.prod(tensor["shape"]) for tensor in tensors)
    spans = [tensor["data_offsets"] for tensor in tensors]
    return num_parameters, sum(end - begin for begin, end in spans)


def _list_weights(files: ModelFiles) -> list[str]:
    """The files that make up the model; some folders hold the same weights once more beside."""
    if INDEX_FILE in files.sizes:
        shards = set(_read_json(files, INDEX_FILE).get("weight_map", {}).values())
        return sorted(shards & set(files.sizes))
    if WEIGHTS_FILE in files.sizes:
        return [WEIGHTS_FILE]
    return sorted(name for name in files.sizes if name.endswith(".safetensors"))


def _read_safetensors_header(files: ModelFiles, name: str) -> dict[str, Any]:
    """Name -> dtype, shape and offsets. Layout: 8 bytes of length, then that much JSON."""
    try:
        beginning = files.read(name, 0, _FIRST_BYTES)
        (length,) = struct.unpack_from("<Q", beginning)
        if 8 + length > files.sizes[name]:
            raise ValueError("its header is longer than the file")
        rest = files.read(name, len(beginning), 8 + length - len(beginning))
        header = json.loads((beginning + rest)[8 : 8 + length])
    except (ValueError, struct.error) as exc:
        raise InputError(
            f"{files.locate(name)} is not a readable safetensors file: {exc}.",
            remedy="Copy it again.",
        ) from exc
    header.pop("__metadata__", None)
    return header


def _read_gguf(files: ModelFiles, name: str) -> dict[str, Any]:
    header = read_gguf_header(files, name)
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
