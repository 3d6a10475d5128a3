"""The loop's own state: what a checkpoint holds besides tensors, and what the result reports."""

from __future__ import annotations

import resource
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from loam_runtime.errors import InputError
from loam_runtime.training.early_stopping import EarlyStopping


@dataclass(slots=True)
class LoopState:
    """Counters and curves over all attempts of a run. Nothing here depends on the hardware.

    Attributes:
        identity: what must be equal for a checkpoint to belong to this run.
        step: optimizer steps done.
        stopped_early: patience ran out; a resumed run must not go on.
    """

    identity: dict[str, Any]
    early_stopping: EarlyStopping
    step: int = 0
    stopped_early: bool = False
    losses: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    num_tokens: int = 0
    num_supervised_tokens: int = 0
    train_seconds: float = 0.0

    def add_step(self, loss: float, num_tokens: int, num_supervised: int, seconds: float) -> None:
        """Count one optimizer step."""
        self.step += 1
        self.losses.append(loss)
        self.num_tokens += num_tokens
        self.num_supervised_tokens += num_supervised
        self.train_seconds += seconds

    def add_validation(self, loss: float) -> bool:
        """Note a validation loss, and whether to stop; returns whether it is the best so far."""
        self.validation.append((self.step, loss))
        is_best = self.early_stopping.record(self.step, loss)
        self.stopped_early = self.early_stopping.should_stop
        return is_best

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dictionary that `from_dict` reads back exactly."""
        return asdict(self)

    def summarize(self) -> dict[str, Any]:
        """The part of a `TrainResult` that is known here."""
        best = self.early_stopping.best_step
        return {
            "steps": self.step,
            "losses": self.losses,
            "validation": self.validation,
            "best_step": self.step if best == -1 else best,
            "stopped_early": self.stopped_early,
            "num_tokens": self.num_tokens,
            "num_supervised_tokens": self.num_supervised_tokens,
            "train_seconds": self.train_seconds,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], identity: dict[str, Any]) -> LoopState:
        """The inverse of `to_dict`.

        Raises:
            InputError: it is the state of another run.
        """
        if values["identity"] != identity:
            raise InputError(
                f"The checkpoint of step {values['step']} belongs to another run "
                f"({values['identity']}); this one is {identity}.",
                remedy="Use another output, or remove the checkpoints.",
            )
        validation = [tuple(point) for point in values["validation"]]
        stopping = EarlyStopping(**values["early_stopping"])
        return cls(**{**values, "early_stopping": stopping, "validation": validation})


def measure_peak_memory(device: torch.device) -> int:
    """Bytes: allocated on a GPU at most, or resident in this process at most."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
