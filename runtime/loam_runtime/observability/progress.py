"""What a person sees while a run goes on: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TextIO

PLAIN_INTERVAL_SECONDS = 10.0
RATE_WINDOW_SECONDS = 60.0


class Progress(Protocol):
    """Shows the stages of a run; every method may be called from any thread."""

    def start_stage(self, stage: str) -> None:
        """`stage` begins; what it counts is not known yet."""

    def start_work(self, stage: str, total: int | None, unit: str) -> None:
        """A countable piece of work begins inside `stage`; `total` None: no known end."""

    def advance(self, stage: str, n: int, fields: Mapping[str, object]) -> None:
        """`n` more units are done; `fields` are shown beside them."""

    def end_stage(self, stage: str, state: str, seconds: float) -> None:
        """`stage` is over after so many seconds: done, failed, interrupted or skipped."""

    def close(self) -> None:
        """Leave the terminal as it was."""


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

    def describe_time_left(self) -> str:
        """For example "about 3 min left"; empty while nothing can be said."""
        seconds = self._rate.estimate_seconds_left(self.total)
        if seconds is None or self.num_done >= (self.total or 0):
            return ""
        return f"about {format_duration(seconds)} left"


class PlainProgress:
    """Lines for logs and pipes: one at a stage's start, one at its end, few in between."""

    def __init__(
        self,
        stages: Sequence[str],
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stages = list(stages)
        self._stream = stream or sys.stderr
        self._clock = clock
        self._lock = threading.Lock()
        self._works: dict[str, Work] = {}
        self._printed_at: dict[str, float] = {}

    def start_stage(self, stage: str) -> None:
        with self._lock:
            self._printed_at[stage] = self._clock()
            self._print(f"{self._locate(stage)}{stage} ...")

    def start_work(self, stage: str, total: int | None, unit: str) -> None:
        with self._lock:
            self._works[stage] = Work(total, unit, self._clock)

    def advance(self, stage: str, n: int, fields: Mapping[str, object]) -> None:
        with self._lock:
            work = self._works.setdefault(stage, Work(None, "done", self._clock))
            work.advance(n, fields)
            now = self._clock()
            if now - self._printed_at.get(stage, now) >= PLAIN_INTERVAL_SECONDS:
                self._printed_at[stage] = now
                self._print(f"      {stage}: {work.describe()}")

    def end_stage(self, stage: str, state: str, seconds: float) -> None:
        with self._lock:
            work = self._works.pop(stage, None)
            details = format_fields(work.fields) if work else ""
            ending = f"{stage}: {state} in {format_duration(seconds)}"
            self._print("      " + ", ".join(part for part in (ending, details) if part))

    def close(self) -> None:
        pass  # Nothing was opened.

    def _locate(self, stage: str) -> str:
        if stage not in self._stages:
            return "      "
        return f"[{self._stages.index(stage) + 1}/{len(self._stages)}] "

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


def open_progress(stages: Sequence[str], stream: TextIO | None = None) -> Progress:
    """Live bars where `stream` (stderr by default) is a terminal, else plain lines."""
    stream = stream or sys.stderr
    if stream.isatty():
        from loam_runtime.observability.live import LiveProgress

        return LiveProgress(stages, stream)
    return PlainProgress(stages, stream)


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
