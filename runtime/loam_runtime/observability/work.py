"""A countable piece of work, how fast it goes, and both in words."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

RATE_WINDOW_SECONDS = 60.0


class RateEstimator:
    """Units per second over the last minute, and from it the time left.

    The first report is the starting point and counts for nothing: after a resume it holds
    everything that an earlier attempt did.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque(maxlen=512)

    def add(self, num_done: int) -> None:
        """Say how many units are done by now, in total."""
        now = self._clock()
        self._samples.append((now, num_done))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_WINDOW_SECONDS:
            self._samples.popleft()

    def estimate_seconds_left(self, total: int | None) -> float | None:
        """Seconds until `total`, or None while nothing can be said."""
        if total is None or len(self._samples) < 2:
            return None
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        if last <= first or end <= start:
            return None
        return max(0, total - last) * (end - start) / (last - first)


class Work:
    """One countable piece of work inside a stage: what is done of it, and the time left."""

    def __init__(self, total: int | None, unit: str, clock: Callable[[], float]) -> None:
        self.total = total
        self.unit = unit
        self.num_done = 0
        self.fields: dict[str, object] = {}
        self._rate = RateEstimator(clock)

    def advance(self, n: int, fields: Mapping[str, object]) -> None:
        """Count `n` more units; fields stay shown until replaced."""
        self.num_done += n
        self.fields.update(fields)
        self._rate.add(self.num_done)

    def describe(self) -> str:
        """For example "120/600 steps (20 %), loss 0.53, about 3 min left"."""
        if self.total:
            share = f" ({self.num_done / self.total:.0%})"
            parts = [f"{self.num_done:,}/{self.total:,} {self.unit}{share}"]
        else:
            parts = [f"{self.num_done:,} {self.unit}"]
        parts += [part for part in (format_fields(self.fields), self.describe_time_left()) if part]
        return ", ".join(parts)

    def estimate_seconds_left(self) -> int:
        """Whole seconds left; 0 while nothing can be said."""
        return round(self._rate.estimate_seconds_left(self.total) or 0)

    def describe_time_left(self) -> str:
        """For example "about 3 min left"; empty while nothing can be said."""
        seconds = self._rate.estimate_seconds_left(self.total)
        if seconds is None or self.num_done >= (self.total or 0):
            return ""
        return f"about {format_duration(seconds)} left"


def format_fields(fields: Mapping[str, object]) -> str:
    """Fields in a few words: {"loss": 0.5312, "kept": 4} is "loss 0.5312, kept 4"."""
    parts = []
    for name, value in fields.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        parts.append(f"{name.replace('_', ' ')} {text}")
    return ", ".join(parts)


def format_duration(seconds: float) -> str:
    """A duration for people: "0.4 s", "42 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
