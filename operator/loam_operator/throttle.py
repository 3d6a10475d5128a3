"""Progress is written seldom: per job, and for all jobs together. Nothing else waits behind it."""

from __future__ import annotations

from collections.abc import Hashable

PER_JOB_SECONDS = 30.0


class ProgressThrottle:
    """Says when a status write that only shows progress may be made.

    Args:
        writes_per_second: for all jobs together.
    """

    def __init__(self, writes_per_second: float = 20.0) -> None:
        self._rate = writes_per_second
        self._tokens = writes_per_second
        self._filled_at = 0.0
        self._written_at: dict[Hashable, float] = {}

    def reserve(self, key: Hashable, now: float) -> float:
        """Seconds to wait; 0 if the write may be made now, and then it counts as made."""
        last = self._written_at.get(key)
        if last is not None and now - last < PER_JOB_SECONDS:
            return PER_JOB_SECONDS - (now - last)
        self._tokens = min(self._rate, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        self._written_at[key] = now
        return 0.0

    def forget(self, key: Hashable) -> None:
        """The job is gone."""
        self._written_at.pop(key, None)
