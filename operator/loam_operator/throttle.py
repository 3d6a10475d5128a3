"""What can wait is done seldom: per job, and for all jobs together. Nothing else waits for it."""

from __future__ import annotations

from collections.abc import Hashable

PER_JOB_SECONDS = 30.0
FIRST_LOOK_SECONDS = 10.0
MOST_LOOK_SECONDS = 320.0


class Bucket:
    """A rate that all jobs share, with one second's worth in hand."""

    def __init__(self, per_second: float) -> None:
        self._rate = per_second
        self._tokens = per_second
        self._filled_at = 0.0

    def take(self, now: float) -> float:
        """Seconds to wait; 0 if there is one to take, and then it is taken."""
        self._tokens = min(self._rate, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0


class ProgressThrottle:
    """Says when a status write that only shows how far a job is may be made.

    Its running attempt has come to another phase: at once, where the bucket allows. All that
    changes inside of a phase: at most every `PER_JOB_SECONDS`, too.

    Args:
        writes_per_second: for all jobs together.
    """

    def __init__(self, writes_per_second: float = 20.0) -> None:
        self._bucket = Bucket(writes_per_second)
        self._written_at: dict[Hashable, float] = {}

    def reserve(self, key: Hashable, now: float, *, is_move: bool = False) -> float:
        """Seconds to wait; 0 if the write may be made now, and then it counts as made.

        Args:
            is_move: to another phase.
        """
        last = self._written_at.get(key)
        if not is_move and last is not None and now - last < PER_JOB_SECONDS:
            return PER_JOB_SECONDS - (now - last)
        wait = self._bucket.take(now)
        if not wait and not is_move:
            self._written_at[key] = now
        return wait

    def forget(self, key: Hashable) -> None:
        """The job is gone."""
        self._written_at.pop(key, None)


class LookThrottle:
    """Says when the API server may be asked why an attempt does not get on.

    To answer, the server goes through all events of a namespace: what does not change is asked for
    ever more seldom.

    Args:
        looks_per_second: for all jobs together.
    """

    def __init__(self, looks_per_second: float = 5.0) -> None:
        self._bucket = Bucket(looks_per_second)
        self._next: dict[Hashable, tuple[int, float, float]] = {}

    def may_look(self, key: Hashable, attempt: int, now: float) -> bool:
        """Whether to ask now, and then it counts as asked."""
        held, due, interval = self._next.get(key, (attempt, now, FIRST_LOOK_SECONDS))
        if held != attempt:
            due, interval = now, FIRST_LOOK_SECONDS
        if now < due or self._bucket.take(now):
            return False
        self._next[key] = (attempt, now + interval, min(2 * interval, MOST_LOOK_SECONDS))
        return True

    def forget(self, key: Hashable) -> None:
        """The job is gone."""
        self._next.pop(key, None)
