"""The one object through which a stage says what it does: progress, events, metrics."""

from __future__ import annotations

from typing import Literal, Protocol

WaitReason = Literal["download", "checkpoint"]


class StageMonitor(Protocol):
    """What a stage may tell the outside; none of it can change the stage's result."""

    def start(self, total: int | None, unit: str) -> None:
        """Begin a countable piece of work; `total` None where the end is not known."""

    def advance(self, n: int = 1, **fields: object) -> None:
        """`n` more units are done; `fields` are shown beside the progress (loss, kept rows)."""

    def log(self, event: str, /, **fields: object) -> None:
        """One structured log line; never pass a secret or whole user rows."""

    def count(self, metric: str, /, n: float = 1, **labels: str) -> None:
        """Add to a counter of `observability.metrics`, named without prefix and `_total`."""

    def gauge(self, metric: str, /, value: float, **labels: str) -> None:
        """Set a gauge of `observability.metrics`, named without prefix."""

    def note_wait(self, reason: WaitReason, seconds: float) -> None:
        """The stage's devices have waited for so long, and computed nothing."""


class NullMonitor:
    """Says nothing; the default where a part is used as a library."""

    def start(self, total: int | None, unit: str) -> None:
        pass

    def advance(self, n: int = 1, **fields: object) -> None:
        pass

    def log(self, event: str, /, **fields: object) -> None:
        pass

    def count(self, metric: str, /, n: float = 1, **labels: str) -> None:
        pass

    def gauge(self, metric: str, /, value: float, **labels: str) -> None:
        pass

    def note_wait(self, reason: WaitReason, seconds: float) -> None:
        pass
