"""A run watched from another process: what its stages say there is said again here.

One side posts plain events; the other replays them on the real `RunMonitor`, which has the log,
the metrics and the progress. Events are plain values, so that any channel can carry them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loam_runtime.observability.monitor import StageMonitor, WaitReason
    from loam_runtime.observability.run_monitor import RunMonitor

Event = dict[str, Any]
Post = Callable[[Event], None]


class RelayedError(Exception):
    """A stage failed in the other process; the text names the error."""


class RelayedMonitor:
    """Stands where the stages run, in the place of a `RunMonitor`.

    Args:
        post: carries an event to the other side, in order.
    """

    def __init__(self, post: Post) -> None:
        self._post = post

    @contextmanager
    def stage(self, name: str) -> Iterator[StageMonitor]:
        self._post({"call": "enter", "stage": name})
        try:
            yield _RelayedStage(name, self._post)
        except BaseException as exc:
            error = f"{type(exc).__name__}: {exc}"
            self._post({"call": "exit", "stage": name, "error": error})
            raise
        self._post({"call": "exit", "stage": name, "error": ""})

    def skip(self, name: str, reason: str = "done earlier") -> None:
        self._post({"call": "skip", "stage": name, "reason": reason})

    def log(self, event: str, /, **fields: object) -> None:
        self._post({"call": "log", "stage": "", "args": (event,), "fields": fields})

    @contextmanager
    def capture_logging(self, level: int = logging.WARNING) -> Iterator[None]:
        """Also relay what libraries say through the standard logging module."""
        handler = _RelayHandler(self, level)
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)


class _RelayedStage:
    """The `StageMonitor` of one stage; values that are no plain ones are posted as text."""

    def __init__(self, stage: str, post: Post) -> None:
        self._stage = stage
        self._post = post

    def start(self, total: int | None, unit: str) -> None:
        self._send("start", total, unit)

    def advance(self, n: int = 1, **fields: object) -> None:
        self._send("advance", n, **fields)

    def log(self, event: str, /, **fields: object) -> None:
        self._send("log", event, **fields)

    def count(self, metric: str, /, n: float = 1, **labels: str) -> None:
        self._send("count", metric, n, **labels)

    def gauge(self, metric: str, /, value: float, **labels: str) -> None:
        self._send("gauge", metric, value, **labels)

    def note_wait(self, reason: WaitReason, seconds: float) -> None:
        self._send("note_wait", reason, seconds)

    def _send(self, call: str, *args: object, **fields: object) -> None:
        self._post({"call": call, "stage": self._stage, "args": args, "fields": fields})


class _RelayHandler(logging.Handler):
    def __init__(self, monitor: RelayedMonitor, level: int) -> None:
        super().__init__(level)
        self._monitor = monitor

    def emit(self, record: logging.LogRecord) -> None:
        self._monitor.log(
            "library_message",
            logger=record.name,
            level=record.levelname.lower(),
            message=record.getMessage(),
        )


class Replay:
    """Says again what a `RelayedMonitor` posted; call it with each event, in order."""

    def __init__(self, monitor: RunMonitor) -> None:
        self._monitor = monitor
        self._stages: dict[str, tuple[AbstractContextManager[StageMonitor], StageMonitor]] = {}

    def __call__(self, event: Event) -> None:
        call, stage = event["call"], event["stage"]
        if call == "enter":
            self._enter(stage)
        elif call == "exit":
            self._exit(stage, event["error"])
        elif call == "skip":
            self._monitor.skip(stage, event["reason"])
        elif not stage:
            self._monitor.log(*event["args"], **event["fields"])
        else:
            _, monitor = self._stages[stage]
            getattr(monitor, call)(*event["args"], **event["fields"])

    def abandon(self, error: str) -> None:
        """The other process is lost: the stages it was in have failed."""
        for stage in list(self._stages):
            self._exit(stage, error)

    def _enter(self, stage: str) -> None:
        context = self._monitor.stage(stage)
        self._stages[stage] = (context, context.__enter__())

    def _exit(self, stage: str, error: str) -> None:
        context, _ = self._stages.pop(stage)
        failure = RelayedError(error) if error else None
        with suppress(RelayedError):  # it was raised where the stage ran
            context.__exit__(type(failure) if failure else None, failure, None)
