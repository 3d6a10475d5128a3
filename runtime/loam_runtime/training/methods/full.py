"""Full fine-tuning: every parameter trained, held in fp32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from loam_runtime.training.config import TrainConfig
from loam_runtime.training.methods.base import Method

if TYPE_CHECKING:
    import torch
    from torch import nn


def build(folder: Path, config: TrainConfig, device: torch.device) -> nn.Module:
    """The model of `folder`, in fp32 whatever the compute precision."""
    import torch

    from loam_runtime.models.loading import load_base

    # Under sharding the whole model must never be on one device: it is read into host memory.
    place = "cpu" if config.sharding == "fullShard" else str(device)
    return load_base(folder, device=place, dtype=torch.float32).requires_grad_(True)


def save(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], config: TrainConfig, folder: Path
) -> None:
    """Write the whole model in the precision it is used in."""
    import torch

    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    state = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    model.config.dtype = dtype
    model.save_pretrained(str(folder), state_dict=state)


FULL = Method("full", build, save)
