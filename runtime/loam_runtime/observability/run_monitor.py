"""Joins progress, logs, metrics and timings into the one monitor that each stage gets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from loam_runtime.observability.logs import EventLog
from loam_runtime.observability.metrics import Metrics
from loam_runtime.observability.monitor import StageMonitor, WaitReason
from loam_runtime.observability.progress import Progress


class RunMonitor:
    """Watches a whole run; `stage` gives each stage its own `StageMonitor`. Thread-safe.

    Attributes:
        timings: seconds by stage, of the stages that are over. A stage entered twice adds up.

    Args:
        stages: the run's stages in order; all of them are "pending" from the start.
    """

    def __init__(
        self,
        stages: Sequence[str],
        *,
        metrics: Metrics,
        event_log: EventLog,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timings: dict[str, float] = {}
        self._metrics = metrics
        self._event_log = event_log
        self._progress = progress
        self._clock = clock
        self._lock = threading.Lock()
        for stage in stages:
            metrics.set_stage_state(stage, "pending")

    @contextmanager
    def stage(self, name: str) -> Iterator[StageMonitor]:
        """Time a stage and say how it ended; an exception marks it failed and goes on its way."""
        start = self._clock()
        self._metrics.set_stage_state(name, "running")
        self._progress.start_stage(name)
        self._event_log.write("stage_started", stage=name)
        try:
            yield _StageMonitor(name, self._metrics, self._event_log, self._progress)
        except BaseException as exc:
            # BaseException: Ctrl-C ends a stage too, and its log should say so.
            state = "failed" if isinstance(exc, Exception) else "interrupted"
            details = {"error": type(exc).__name__, "message": str(exc)}
            self._end(name, state, start, details)
            raise
        self._end(name, "done", start, {})

    def skip(self, name: str, reason: str = "done earlier") -> None:
        """Say that a stage has nothing to do, and why."""
        self._metrics.set_stage_state(name, "skipped")
        self._progress.end_stage(name, "skipped", 0.0)
        self._event_log.write("stage_skipped", {"reason": reason}, stage=name)

    def log(self, event: str, /, **fields: object) -> None:
        """One structured line that belongs to no stage."""
        self._event_log.write(event, fields)

    def close(self) -> None:
        """End the live display and close the log; the metrics stay for the last scrape."""
        self._progress.close()
        self._event_log.close()

    def _end(self, name: str, state: str, start: float, details: Mapping[str, object]) -> None:
        seconds = self._clock() - start
        with self._lock:
            self.timings[name] = self.timings.get(name, 0.0) + seconds
            total = self.timings[name]
        self._metrics.set_stage_state(name, state)
        self._metrics.set_gauge("stage_duration_seconds", total, stage=name)
        self._progress.end_stage(name, state, seconds)
        level = "info" if state == "done" else "error"
        fields = {"state": state, "seconds": round(seconds, 3), **details}
        self._event_log.write("stage_ended", fields, level=level, stage=name)


class _StageMonitor:
    """The `StageMonitor` of one stage."""

    def __init__(
        self, stage: str, metrics: Metrics, event_log: EventLog, progress: Progress
    ) -> None:
        self._stage = stage
        self._metrics = metrics
        self._event_log = event_log
        self._progress = progress

    def start(self, total: int | None, unit: str) -> None:
        self._progress.start_work(self._stage, total, unit)
        self._event_log.write("work_started", {"total": total, "unit": unit}, stage=self._stage)

    def advance(self, n: int = 1, **fields: object) -> None:
        self._progress.advance(self._stage, n, fields)

    def log(self, event: str, /, **fields: object) -> None:
        level = str(fields.pop("level", "info"))
        self._event_log.write(event, fields, level=level, stage=self._stage)

    def count(self, metric: str, /, n: float = 1, **labels: str) -> None:
        self._report(self._metrics.count, metric, n, labels)

    def gauge(self, metric: str, /, value: float, **labels: str) -> None:
        self._report(self._metrics.set_gauge, metric, value, labels)

    def note_wait(self, reason: WaitReason, seconds: float) -> None:
        self._progress.note_wait(reason, seconds)
        self._metrics.count("wait_seconds", seconds, reason=reason)

    def _report(
        self, update: Callable[..., None], metric: str, value: float, labels: dict[str, str]
    ) -> None:
        if self._metrics.has_label(metric, "stage"):
            labels = {"stage": self._stage, **labels}
        try:
            update(metric, value, **labels)
        except (KeyError, ValueError) as exc:
            # A wrong figure about a run is no reason to lose the run.
            fields = {"metric": metric, "reason": str(exc)}
            self._event_log.write("metric_refused", fields, level="warning", stage=self._stage)
