"""What a method of training has to offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from loam_runtime.training.config import Sharding, TrainConfig

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, slots=True)
class Method:
    """A way to train a model.

    Attributes:
        name: the registry's key.
        build: (model folder, config, device) -> the model, trained parameters in fp32 with
            `requires_grad`, all others frozen. Seeded by the caller.
        save: (model, its trained tensors by name on the CPU, config, folder) -> None. Writes what
            is published, as safetensors.
        refused_shardings: shardings that do not work with it, and why.
    """

    name: str
    build: Callable[[Path, TrainConfig, torch.device], nn.Module]
    save: Callable[[nn.Module, Mapping[str, torch.Tensor], TrainConfig, Path], None]
    refused_shardings: Mapping[Sharding, str] = field(default_factory=dict)
