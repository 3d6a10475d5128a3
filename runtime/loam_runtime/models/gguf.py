"""A .gguf file converted once into a folder of safetensors, kept in the cache by content."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from loam_runtime.errors import InputError
from loam_runtime.models.checks import check_model_folder
from loam_runtime.storage.cache import cache_dir, digest_path, keep

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def convert_gguf(path: Path) -> Path:
    """The folder of safetensors (bfloat16) and tokenizer made from the .gguf file at `path`.

    The folder appears whole or not at all. A second process that asks for the same file waits
    for the first; a lock of a killed process is freed by the kernel.

    Raises:
        InputError: transformers cannot read the file, or its tokenizer does not work.
    """
    return keep(cache_dir() / "models" / digest_path(path), partial(_convert, path))


def _convert(path: Path, folder: Path) -> None:
    logger.info("converting %s once: takes a minute or two", path)
    _write_safetensors(path, folder)
    check_model_folder(folder)
    logger.info("converted %s", path)


def _write_safetensors(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    try:
        with _parse_once():
            tokenizer = AutoTokenizer.from_pretrained(**source)
            model = AutoModelForCausalLM.from_pretrained(
                **source, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
            )
    except (OSError, ValueError, KeyError, RuntimeError) as exc:
        raise InputError(
            f"{path} cannot be converted: {exc}.",
            remedy="Use a .gguf of an architecture that transformers reads, or safetensors.",
        ) from exc
    _check_tokenizer(tokenizer, path)
    tokenizer.save_pretrained(folder)
    _forget_quantization(model)
    _save(model, folder)


@contextmanager
def _parse_once() -> Iterator[None]:
    """transformers parses the file anew for tokenizer, config and weights: half of the time."""
    import gguf

    reader = gguf.GGUFReader
    gguf.GGUFReader = cache(reader)
    try:
        yield
    finally:
        gguf.GGUFReader = reader


def _save(model: PreTrainedModel, folder: Path) -> None:
    # Else it writes on rank 0 only: a worker of a higher rank may be a machine with its own cache.
    model.should_save_on_this_rank = lambda is_main_process: True
    model.save_pretrained(folder)


def _forget_quantization(model: object) -> None:
    """Make a dequantized model an ordinary one, which save_pretrained and reload take as it is."""
    vars(model.config).pop("quantization_config", None)
    model.hf_quantizer = None
    model.is_quantized = False


def _check_tokenizer(tokenizer: object, path: Path) -> None:
    """Check what a conversion can lose: one BOS, an EOS, and text that survives a round trip."""
    probe = "A round trip: naïve, 日本.\nTwo  spaces."
    ids = tokenizer(probe)["input_ids"]
    problems = []
    if tokenizer.eos_token_id is None:
        problems.append("it has no end-of-sequence token")
    if tokenizer.bos_token_id is not None and ids.count(tokenizer.bos_token_id) > 1:
        problems.append("it puts more than one beginning-of-sequence token")
    if tokenizer.decode(ids, skip_special_tokens=True) != probe:
        problems.append("text does not survive encoding and decoding")
    if problems:
        raise InputError(
            f"The tokenizer inside {path} does not work: {'; '.join(problems)}.",
            remedy="Use the model's safetensors folder with its own tokenizer.",
        )
