"""Stores a run's log while it goes on: what a lost machine wrote last is what one looks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

UPLOAD_SECONDS = 30.0
_END_SECONDS = 3.0
_MOST_SHARE = 0.05  # of the time: a slow store is asked less often


@contextmanager
def upload_regularly(
    folder: Path,
    put: Callable[[str, bytes], object],
    interval_seconds: float = UPLOAD_SECONDS,
) -> Iterator[None]:
    """Store a folder's files as they grow, from a thread of its own, until the block ends.

    Nothing that goes wrong here reaches the run: what could not be stored is tried again with the
    next round, and the last round is its caller's.

    Args:
        put: stores the content of a file under its path within the folder.
    """
    is_over = threading.Event()
    thread = threading.Thread(
        target=_upload_until,
        args=(is_over, folder, put, interval_seconds),
        name="log-upload",
        daemon=True,  # a store that hangs must not keep the process
    )
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(_END_SECONDS)  # lest an older log arrive behind the last one


def _upload_until(
    is_over: threading.Event,
    folder: Path,
    put: Callable[[str, bytes], object],
    interval_seconds: float,
) -> None:
    stored: dict[Path, int] = {}
    pause = interval_seconds
    while not is_over.wait(pause):
        started = time.monotonic()
        for path in sorted(folder.rglob("*")):
            _upload_grown(path, folder, put, stored)
        pause = max(interval_seconds, (time.monotonic() - started) / _MOST_SHARE)


def _upload_grown(
    path: Path, folder: Path, put: Callable[[str, bytes], object], stored: dict[Path, int]
) -> None:
    try:
        if not path.is_file() or path.stat().st_size == stored.get(path):
            return
        data = path.read_bytes()  # a moment of it: the file grows while it is sent
        put(path.relative_to(folder).as_posix(), data)
        stored[path] = len(data)
    except Exception:
        # Whatever it was, the run is worth more than its log.
        stored.pop(path, None)
