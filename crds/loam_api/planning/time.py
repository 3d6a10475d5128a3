"""Arithmetic work, time and cost of the training steps."""

from __future__ import annotations

from dataclasses import dataclass

from loam_api.planning.facts import ModelFacts
from loam_api.planning.profile import HardwareProfile

# Per parameter and token: 2 forward, 2 for the gradient of the inputs, and 2 for the gradient
# of the weights, which a frozen base does not have.
FLOPS_PER_PARAMETER = {"full": 6, "lora": 4, "qlora": 4}

# Dequantizing costs: LoRA ran 1.8x and QLoRA 1.4x as fast as full fine-tuning; 3,083 and 2,413
# tokens/s in another measurement. Both give 1.28.
_QLORA_SLOWDOWN = 1.28


@dataclass(frozen=True, slots=True)
class TimeEstimate:
    """Training alone: no synthesis, evaluation or transfer.

    Attributes:
        flops: of all steps.
        cost: in the profile's currency; 0 when its price is unknown.
    """

    flops: float
    seconds: float
    cost: float


def count_flops(
    model: ModelFacts, method: str, num_tokens: int, num_supervised_tokens: int
) -> float:
    """FLOPs of training on so many tokens.

    Token embeddings are looked up, not multiplied, and the output head is applied at
    supervised positions only; the attention's own product is left out (small for short rows).
    """
    body = model.num_parameters - model.num_embedding_parameters
    head = model.num_head_parameters
    per_parameter = FLOPS_PER_PARAMETER[method]
    return float(per_parameter * (body * num_tokens + head * num_supervised_tokens))


def estimate_time(
    model: ModelFacts,
    profile: HardwareProfile,
    *,
    method: str,
    num_tokens: int,
    num_supervised_tokens: int,
    num_workers: int,
) -> TimeEstimate:
    """Time of training on so many tokens in all, all passes together."""
    flops = count_flops(model, method, num_tokens, num_supervised_tokens)
    num_devices = min(num_workers, profile.num_devices)
    seconds = flops / (profile.peak_flops * profile.mfu * num_devices)
    if method == "qlora":
        seconds *= _QLORA_SLOWDOWN
    return TimeEstimate(flops, seconds, seconds / 3600 * profile.price_per_hour * num_devices)
