"""What a training run hands to the stages after it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The outcome, JSON-able.

    Attributes:
        adapter_dir: local folder with what was trained: an adapter, or a whole model (full).
        steps: optimizer steps taken, over all attempts.
        losses: mean loss of each step, in nats per supervised token.
        validation: (steps done, loss) of each evaluation.
        best_step: steps done when the returned weights were in force.
        stopped_early: whether patience ran out before the last step.
        micro_batch: after the memory probe.
        num_trainable_parameters, num_parameters: of the model.
        num_tokens: trained on, without padding, over all attempts.
        num_supervised_tokens: those of them that were learned.
        train_seconds: time inside optimizer steps, over all attempts.
        peak_memory_bytes: of the device, or of the process on a CPU; the highest of all ranks.
    """

    adapter_dir: str
    steps: int
    losses: list[float]
    validation: list[tuple[int, float]]
    best_step: int
    stopped_early: bool
    micro_batch: int
    num_trainable_parameters: int
    num_parameters: int
    num_tokens: int
    num_supervised_tokens: int
    train_seconds: float
    peak_memory_bytes: int

    @property
    def tokens_per_second(self) -> float:
        """Throughput of the optimizer steps, over all workers together."""
        return self.num_tokens / self.train_seconds if self.train_seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All fields and the throughput."""
        return {**asdict(self), "tokens_per_second": self.tokens_per_second}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainResult:
        """The inverse of `to_dict`."""
        fields = {name: values[name] for name in cls.__dataclass_fields__}
        return cls(**{**fields, "validation": [tuple(point) for point in fields["validation"]]})
