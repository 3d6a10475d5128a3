"""A file of lines that only grows, written by one process at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from loam_runtime.errors import InputError, StorageError


def open_locked(path: Path) -> int:
    """Open a journal file for appending, held by this process alone until it ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as exc:
        raise wrap_os_error(exc) from exc
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(file)
        raise InputError(
            f"Another process is writing the teacher journal {path}.",
            remedy="Wait for it to end, or stop it: the same run must not be started twice.",
        ) from exc
    return file


def cut_torn_end(file: int) -> list[bytes]:
    """The lines of the file; one torn by a kill at its end is cut off."""
    with os.fdopen(os.dup(file), "rb") as reader:
        reader.seek(0)
        data = reader.read()
    os.ftruncate(file, data.rfind(b"\n") + 1)
    return split_whole_lines(data)


def split_whole_lines(data: bytes) -> list[bytes]:
    """The lines that a line end closes."""
    return data[: data.rfind(b"\n") + 1].splitlines()


def wrap_os_error(exc: OSError) -> StorageError:
    """What the user is told."""
    return StorageError(
        f"The teacher journal cannot be written: {exc.strerror}.",
        remedy="Free space or permissions on the work folder, then run again: answers so far are "
        "kept.",
    )
