"""Memory of a worker on which the base model itself writes rows.

Each worker has the whole model in the precision of the computation: neither in 4 bits, as QLoRA
trains it, nor sharded, as full fine-tuning may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loam_api.planning.memory import COMPUTE_BYTES, FITTING_SHARE, FP32_BYTES
from loam_api.planning.teacher import estimate_exchange_tokens

if TYPE_CHECKING:
    from loam_api.finetunejob import Synthesis
    from loam_api.planning.facts import DataFacts, ModelFacts

GENERATION_BATCH = 16  # sequences written together
_FP64_BYTES = 8


def estimate_generation_memory(
    model: ModelFacts, data: DataFacts, synthesis: Synthesis | None, precision: str
) -> int:
    """Bytes at the longest prompt and answer; 0 where the base model writes nothing.

    Weights, the keys and values of a batch, and its logits with the probabilities that are drawn
    from (once in fp32, twice in fp64).
    """
    if synthesis is None or synthesis.teacher.kind != "self" or not model.is_known:
        return 0
    width = COMPUTE_BYTES[precision]
    tokens = GENERATION_BATCH * estimate_exchange_tokens(synthesis, data)
    cache = 2 * model.num_layers * model.num_key_value_heads * model.head_dim * tokens * width
    logits = GENERATION_BATCH * model.vocab_size * (width + FP32_BYTES + 2 * _FP64_BYTES)
    return model.num_parameters * width + cache + logits


def can_generate(num_bytes: int, memory_bytes: int) -> bool:
    """Whether the estimate leaves the device some room."""
    return num_bytes <= memory_bytes * FITTING_SHARE
