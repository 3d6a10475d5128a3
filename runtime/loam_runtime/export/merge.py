"""One 16-bit model out of base and adapter, for servers that load no adapters."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel

from loam_runtime.errors import DivergenceError
from loam_runtime.models.loading import Quantization, load_base

MERGED_DTYPE = torch.bfloat16


def merge_adapter(
    base_folder: Path,
    adapter: Path,
    destination: Path,
    *,
    device: str,
    quantization: Quantization = "",
) -> None:
    """Write base + adapter as one model of bfloat16 safetensors to `destination`.

    An adapter trained on a 4-bit base goes onto that base's dequantized weights: it has learnt
    to correct their rounding, and would be wrong on the original ones.

    Raises:
        DivergenceError: the merged weights would not be finite.
    """
    # Merged in float32 and rounded once, at the end.
    model = load_base(base_folder, device=device, dtype=torch.float32, quantization=quantization)
    if quantization:
        model = model.dequantize(dtype=torch.float32)
    adapted = PeftModel.from_pretrained(model, adapter, is_trainable=False)
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except ValueError as exc:
        raise DivergenceError(
            f"Merging {adapter} would give weights that are not finite: {exc}.",
            remedy="Lower training.learningRate.",
        ) from exc
    merged.to(MERGED_DTYPE).save_pretrained(destination)
