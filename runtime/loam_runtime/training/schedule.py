"""The optimizer, its learning rate as a function of the step, and its state by name."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch.distributed.tensor import DTensor

from loam_runtime.training.config import TrainConfig

MAX_GRAD_NORM = 1.0
# Adapters start at zero effect and see few steps: decay would only pull them back to the base.
_WEIGHT_DECAY = 0.0
_BETAS = (0.9, 0.999)


def compute_learning_rate(step: int, num_steps: int, config: TrainConfig) -> float:
    """The rate of step `step` (from 0): a linear rise to the peak, then a fall that ends near 0.

    A pure function, so that a resumed run has no scheduler state to restore.
    """
    num_warmup = round(config.warmup * num_steps)
    if step < num_warmup:
        return config.learning_rate * (step + 1) / (num_warmup + 1)
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    is_linear = config.decay == "linear"
    share = 1 - progress if is_linear else 0.5 * (1 + math.cos(math.pi * progress))
    return config.learning_rate * share


def build_optimizer(
    parameters: Mapping[str, torch.nn.Parameter], config: TrainConfig
) -> torch.optim.AdamW:
    """AdamW with its moments allocated, so that the memory probe sees all memory of a step."""
    sharded = any(isinstance(parameter, DTensor) for parameter in parameters.values())
    optimizer = torch.optim.AdamW(
        parameters.values(),
        lr=config.learning_rate,
        betas=_BETAS,
        weight_decay=_WEIGHT_DECAY,
        # One kernel for all parameters; DTensors on a CPU have no such kernel.
        fused=not sharded or config.device != "cpu",
    )
    _allocate_moments(optimizer)
    return optimizer


def _allocate_moments(optimizer: torch.optim.AdamW) -> None:
    """Take one step of nothing: zero gradients at rate zero leave the weights bit-equal."""
    (group,) = optimizer.param_groups
    learning_rate, group["lr"] = group["lr"], 0.0
    for parameter in group["params"]:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    group["lr"] = learning_rate
    for state in optimizer.state.values():
        state["step"].zero_()


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Use `learning_rate` in the next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def name_moments(
    parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """The optimizer's tensors themselves (no copies), named after their parameters."""
    return {
        f"optimizer.{key}.{name}": optimizer.state[parameter][key]
        for name, parameter in parameters.items()
        for key in ("step", "exp_avg", "exp_avg_sq")
    }
