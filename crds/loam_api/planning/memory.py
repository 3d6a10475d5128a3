"""Memory of one training process: exact for parameters, gradients and optimizer, else estimated.

What is trained is kept in fp32 with its gradient and Adam's two moments: 16 bytes a trained
parameter. A frozen base is kept in the precision of the computation, or in 4 bits (NF4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loam_api.planning.facts import ModelFacts

FP32_BYTES = 4
COMPUTE_BYTES = {"bf16": 2, "fp32": 4}
ADAM_BYTES = 2 * FP32_BYTES
TRAINED_BYTES = 2 * FP32_BYTES + ADAM_BYTES  # of a trained parameter with all that belongs to it

# NF4 with double quantization: 4 bits a weight, an 8-bit scale for each 64 of them, and an
# fp32 scale for each 256 of those.
NF4_BYTES = 0.5 + 1 / 64 + FP32_BYTES / (64 * 256)

FITTING_SHARE = 0.9  # of the memory; the rest is for the allocator, the context, fragmentation


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of one process at its peak.

    Attributes:
        parameters, gradients, optimizer: exact.
        activations: what is kept for the backward pass, without checkpointing; an estimate.
        logits: of the supervised positions with their gradient; an estimate.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def state(self) -> int:
        """Bytes that do not depend on the batch."""
        return self.parameters + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        return self.state + self.activations + self.logits


@dataclass(frozen=True, slots=True)
class TrainingShape:
    """What decides the memory besides the model.

    Attributes:
        rank, target_modules: of LoRA; not read for full fine-tuning.
        row_tokens: length of the longest row.
        supervised_tokens: of one row; 0 when unknown: all of them.
        num_shards: processes that share the state (full sharding); 1 without.
    """

    method: str
    precision: str
    micro_batch: int
    row_tokens: int
    rank: int = 0
    target_modules: Sequence[str] = ()
    supervised_tokens: int = 0
    num_shards: int = 1


def count_adapter_parameters(model: ModelFacts, rank: int, target_modules: Sequence[str]) -> int:
    """Parameters of LoRA's A and B on all layers; modules the model does not have count 0."""
    shapes = model.get_linear_shapes()
    widths = sum(sum(shapes[name]) for name in target_modules if name in shapes)
    return rank * widths * model.num_layers


def count_trained_parameters(model: ModelFacts, shape: TrainingShape) -> int:
    """All parameters for full fine-tuning, else the adapter's."""
    if shape.method == "full":
        return model.num_parameters
    return count_adapter_parameters(model, shape.rank, shape.target_modules)


def estimate_memory(model: ModelFacts, shape: TrainingShape) -> MemoryEstimate:
    """The peak of one process, at the longest row."""
    trained = count_trained_parameters(model, shape)
    frozen = 0 if shape.method == "full" else compute_frozen_bytes(model, shape)
    return MemoryEstimate(
        parameters=(frozen + trained * FP32_BYTES) // shape.num_shards,
        gradients=trained * FP32_BYTES // shape.num_shards,
        optimizer=trained * ADAM_BYTES // shape.num_shards,
        activations=_estimate_activations(model, shape),
        logits=_estimate_logits(model, shape),
    )


def compute_frozen_bytes(model: ModelFacts, shape: TrainingShape) -> int:
    """Bytes of the frozen base; under QLoRA what is not quantized is cast to fp32 (PEFT)."""
    if shape.method != "qlora":
        return model.num_parameters * COMPUTE_BYTES[shape.precision]
    quantized = model.num_linear_parameters
    return round(quantized * NF4_BYTES) + (model.num_parameters - quantized) * FP32_BYTES


def _estimate_activations(model: ModelFacts, shape: TrainingShape) -> int:
    """Tensors kept for the backward pass, by the operations of a gated decoder layer.

    Per token and layer, in the precision of the computation: 6 widths of the residual stream
    and normed inputs, queries, keys, values and the attention's output, 4 inner widths of the
    gated MLP; in fp32, the upcast inputs of the norms (none in fp32, where they are shared) and
    each adapted module's input after dropout. Attention keeps no score matrix (SDPA). Against
    the tensors that torch saves for Llama and Gemma 3 layers this is within 30 %.
    """
    queries = model.num_attention_heads * model.head_dim
    keys = model.num_key_value_heads * model.head_dim
    elements = 6 * model.hidden_size + 2 * queries + 2 * keys + 4 * model.intermediate_size
    per_token = elements * COMPUTE_BYTES[shape.precision]
    if shape.precision != "fp32":
        per_token += model.norm_width * FP32_BYTES
    if shape.method != "full":
        shapes = model.get_linear_shapes()
        inputs = sum(shapes[name][0] for name in shape.target_modules if name in shapes)
        per_token += inputs * FP32_BYTES
    return per_token * model.num_layers * shape.micro_batch * shape.row_tokens


def _estimate_logits(model: ModelFacts, shape: TrainingShape) -> int:
    # The logits, their fp32 log-probabilities and the gradient of both, at supervised positions.
    positions = (shape.supervised_tokens or shape.row_tokens) * shape.micro_batch
    return positions * model.vocab_size * (2 * FP32_BYTES + COMPUTE_BYTES[shape.precision])


def fits(estimate: MemoryEstimate, memory_bytes: int) -> bool:
    """Whether the estimate leaves the device some room."""
    return estimate.total <= memory_bytes * FITTING_SHARE
