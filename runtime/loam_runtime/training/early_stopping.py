"""Which step was best on the validation set, and when to stop looking for a better one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class EarlyStopping:
    """The state that a checkpoint carries; `patience` 0 never stops.

    Attributes:
        best_step: optimizer steps done when the validation loss was lowest; -1 before the first.
        num_failures: evaluations since then.
    """

    patience: int
    best_loss: float | None = None
    best_step: int = -1
    num_failures: int = 0

    def record(self, step: int, loss: float) -> bool:
        """Note the validation loss after `step`; returns whether it is the best so far."""
        if self.best_loss is None or loss < self.best_loss:
            self.best_loss, self.best_step, self.num_failures = loss, step, 0
            return True
        self.num_failures += 1
        return False

    @property
    def should_stop(self) -> bool:
        """Whether patience has run out."""
        return 0 < self.patience <= self.num_failures
