"""Live progress on a terminal: every stage of the run with its state, bar and time left."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from loam_runtime.observability.monitor import WaitReason
from loam_runtime.observability.work import Work, format_duration, format_fields

_MARKS = {
    "pending": ("·", "dim"),
    "running": ("●", "bold cyan"),
    "done": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "interrupted": ("✗", "yellow"),
    "skipped": ("-", "dim"),
}


class _StateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        mark, style = _MARKS[task.fields["state"]]
        return Text(mark, style=style)


class _TimeColumn(ProgressColumn):
    """What a stage took; while it runs, what it has taken so far."""

    def render(self, task: Task) -> Text:
        state, seconds = task.fields["state"], task.fields["seconds"]
        if state == "running":
            seconds = task.elapsed
        if seconds is None:
            return Text("")
        return Text(format_duration(seconds), style="dim")


class LiveProgress:
    """One line a stage, all shown from the start, redrawn in place."""

    def __init__(self, stages: Sequence[str], stream: TextIO) -> None:
        self._lock = threading.Lock()
        self._works: dict[str, Work] = {}
        self._progress = Progress(
            _StateColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _TimeColumn(),
            # No markup: fields can hold a user's text.
            TextColumn("{task.fields[details]}", markup=False, style="dim"),
            console=Console(file=stream),
            refresh_per_second=4,
        )
        self._tasks = {stage: self._add_task(stage) for stage in stages}
        self._progress.start()

    def start_stage(self, stage: str) -> None:
        with self._lock:
            task = self._find_task(stage)
            self._progress.start_task(task)
            self._progress.update(task, state="running", total=None)

    def start_work(self, stage: str, total: int | None, unit: str) -> None:
        with self._lock:
            self._works[stage] = Work(total, unit, time.monotonic)
            self._progress.update(self._find_task(stage), total=total, completed=0)

    def advance(self, stage: str, n: int, fields: Mapping[str, object]) -> None:
        with self._lock:
            work = self._works.setdefault(stage, Work(None, "done", time.monotonic))
            work.advance(n, fields)
            self._progress.update(
                self._find_task(stage), completed=work.num_done, details=work.describe()
            )

    def note_wait(self, reason: WaitReason, seconds: float) -> None:
        pass  # The job's metrics have it.

    def end_stage(self, stage: str, state: str, seconds: float) -> None:
        with self._lock:
            work = self._works.pop(stage, None)
            details = format_fields(work.fields) if work else ""
            filled = 1 if state == "done" else 0
            self._progress.update(
                self._find_task(stage),
                state=state,
                seconds=seconds,
                details=details,
                total=1,
                completed=filled,
            )

    def close(self) -> None:
        self._progress.stop()

    def _find_task(self, stage: str) -> TaskID:
        if stage not in self._tasks:
            self._tasks[stage] = self._add_task(stage)
        return self._tasks[stage]

    def _add_task(self, stage: str) -> TaskID:
        return self._progress.add_task(
            stage, start=False, total=1, state="pending", seconds=None, details=""
        )
