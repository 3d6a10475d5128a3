"""Structured logs: one JSON object a line, for the run's `logs/<attempt>/log.jsonl`."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from loam_runtime.observability.redaction import RedactingFilter, Redactor


class EventLog:
    """Appends events to a file, line by line, secrets masked. Thread-safe.

    What cannot be written, on a full disk, is left out: a run is worth more than its log.

    A line is `{"ts", "level", "event", "job", "stage", "attempt", "fields"}`; `ts` is UTC, ISO 8601
    with milliseconds.

    Args:
        path: the file; its folders are made, an existing one is continued.
        attempt: which try of the job this is, counted from 1.
        redactor: what masks the secrets; by default those of this process' environment.
    """

    def __init__(
        self, path: Path, *, job: str, attempt: int, redactor: Redactor | None = None
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.redactor = redactor or Redactor()
        self._job = job
        self._attempt = attempt
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)
        self._is_whole = True

    def write(
        self,
        event: str,
        fields: Mapping[str, object] | None = None,
        *,
        level: str = "info",
        stage: str = "",
    ) -> None:
        """Append one event; after `close` it is dropped."""
        line = self._format(event, level, stage, fields or {})
        with self._lock:
            if not self._file.closed:
                self._append(line.encode() + b"\n")

    @contextmanager
    def capture_logging(self, level: int = logging.WARNING) -> Iterator[None]:
        """Also take what libraries say through the standard logging module, from `level` up."""
        handler = _EventHandler(self)
        handler.setLevel(level)
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        with self._lock:
            self._file.close()

    def _append(self, line: bytes) -> None:
        """The whole line or nothing of it; the first that is left out is told on stderr."""
        reason = ""
        size = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) == len(line):
                return
        except OSError as exc:
            reason = f" ({exc.strerror})"
        with suppress(OSError):
            self._file.truncate(size)
        if self._is_whole:
            self._is_whole = False
            # Not by a logger: what it says comes back here.
            print(
                f"WARNING The log {self.path} cannot be written{reason}: lines are left out. "
                "Free some space.",
                file=sys.stderr,
            )

    def _format(self, event: str, level: str, stage: str, fields: Mapping[str, object]) -> str:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {
            "ts": now.replace("+00:00", "Z"),
            "level": level,
            "event": self.redactor.redact(event),
            "job": self._job,
            "stage": stage,
            "attempt": self._attempt,
            "fields": self.redactor.redact_value(fields),
        }
        # ASCII: U+2028 and lone surrogates in a user's text can neither split nor break a line.
        return json.dumps(line, ensure_ascii=True)


class _EventHandler(logging.Handler):
    """Hands records of the standard logging module to an `EventLog`."""

    def __init__(self, event_log: EventLog) -> None:
        super().__init__()
        self._event_log = event_log

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)
        self._event_log.write("library_message", fields, level=record.levelname.lower())


def configure_console_logging(redactor: Redactor, level: int = logging.WARNING) -> None:
    """Send the standard logging module's records to stderr, secrets masked."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RedactingFilter(redactor))
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
