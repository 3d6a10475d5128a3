"""A monitor that shows progress and keeps nothing: for work that is no run."""

from __future__ import annotations

from loam_runtime.observability.monitor import NullMonitor
from loam_runtime.observability.progress import Progress


class ProgressMonitor(NullMonitor):
    """The `StageMonitor` of one piece of work that has neither log nor metrics."""

    def __init__(self, stage: str, progress: Progress) -> None:
        self._stage = stage
        self._progress = progress

    def start(self, total: int | None, unit: str) -> None:
        self._progress.start_work(self._stage, total, unit)

    def advance(self, n: int = 1, **fields: object) -> None:
        self._progress.advance(self._stage, n, fields)
