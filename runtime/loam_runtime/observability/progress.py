"""What a person sees while a run goes on: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TextIO

from loam_runtime.observability.monitor import WaitReason
from loam_runtime.observability.work import Work, format_duration, format_fields

PLAIN_INTERVAL_SECONDS = 10.0


class Progress(Protocol):
    """Shows the stages of a run; every method may be called from any thread."""

    def start_stage(self, stage: str) -> None:
        """`stage` begins; what it counts is not known yet."""

    def start_work(self, stage: str, total: int | None, unit: str) -> None:
        """A countable piece of work begins inside `stage`; `total` None: no known end."""

    def advance(self, stage: str, n: int, fields: Mapping[str, object]) -> None:
        """`n` more units are done; `fields` are shown beside them."""

    def note_wait(self, reason: WaitReason, seconds: float) -> None:
        """Devices have waited for so long, and computed nothing."""

    def end_stage(self, stage: str, state: str, seconds: float) -> None:
        """`stage` is over after so many seconds: done, failed, interrupted or skipped."""

    def close(self) -> None:
        """Leave the terminal as it was."""


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

    def note_wait(self, reason: WaitReason, seconds: float) -> None:
        pass  # The job's metrics have it; between these lines it would be noise.

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
