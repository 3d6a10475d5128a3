"""Low-rank adaptation: the base frozen in compute precision, adapters in fp32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from loam_runtime.errors import InputError
from loam_runtime.training.config import TrainConfig
from loam_runtime.training.methods.base import Method

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from torch import nn


def build(folder: Path, config: TrainConfig, device: torch.device) -> PeftModel:
    """The base of `folder` with fresh adapters."""
    import torch

    from loam_runtime.models.loading import load_base

    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    return add_adapters(load_base(folder, device=str(device), dtype=dtype), config)


def add_adapters(base: nn.Module, config: TrainConfig) -> PeftModel:
    """Wrap `base`; its own parameters are frozen.

    Raises:
        InputError: `target_modules` names nothing in this model.
    """
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.target_modules),
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        # In bf16 most updates of an adapter would be rounded away: keep it in fp32.
        return get_peft_model(base, lora, autocast_adapter_dtype=True)
    except ValueError as exc:
        raise InputError(
            f"spec.training.lora.targetModules: {list(config.target_modules)} match no layer of "
            f"{type(base).__name__}.",
            remedy="Name linear layers of the model, such as q_proj and v_proj.",
        ) from exc


def save(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], config: TrainConfig, folder: Path
) -> None:
    """Write the adapter, and nothing of the base, in PEFT's format."""
    # "auto" would look at the base's vocabulary on the hub, and might save all embeddings.
    model.save_pretrained(str(folder), save_embedding_layers=False)


LORA = Method(
    "lora",
    build,
    save,
    refused_shardings={
        "fullShard": "LoRA trains under data parallelism; its frozen base is not sharded."
    },
)
