"""LoRA on a base quantized to 4-bit NormalFloat with double quantization."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loam_runtime.training.config import TrainConfig
from loam_runtime.training.methods import lora
from loam_runtime.training.methods.base import Method

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


def build(folder: Path, config: TrainConfig, device: torch.device) -> PeftModel:
    """The quantized base of `folder` with fresh adapters."""
    import torch

    from loam_runtime.models.loading import load_base

    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    base = load_base(folder, device=str(device), dtype=dtype, quantization="nf4")
    return lora.add_adapters(base, config)


QLORA = Method(
    "qlora",
    build,
    lora.save,
    refused_shardings={
        "fullShard": "FSDP2 corrupts packed 4-bit weights in silence (NaN patterns of packed "
        "bytes are canonicalised, the quantization state is lost)."
    },
)
