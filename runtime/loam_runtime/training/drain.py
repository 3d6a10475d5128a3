"""A pod that is told to go: what works in it is asked to save, and the pod waits until it has.

The kubelet runs this module as the pod's preStop hook, before it ends the pod's processes. Hook and
processes meet in a folder of the pod: the hook leaves a request there, and waits for as long as a
process is named in it.

python -m loam_runtime.training.drain
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

FOLDER_VARIABLE = "LOAM_DRAIN_DIR"
MOST_SECONDS = 100.0  # of the pod's 120; the rest is for processes to end
START_SECONDS = 15.0  # until Ray listens, on a busy machine

_REQUEST = "requested"
_POLL_SECONDS = 0.2


class Drain:
    """A training process' side of it.

    Args:
        folder: None outside of a cluster, where nothing is ever asked.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._is_served = False

    def is_asked(self) -> bool:
        """Whether the pod goes and this process has not yet saved."""
        return (
            self._folder is not None and not self._is_served and (self._folder / _REQUEST).exists()
        )

    def acknowledge(self) -> None:
        """Everything is saved: the pod need not wait for this process any more."""
        self._is_served = True
        if self._folder is not None:
            _locate_own(self._folder, "work").unlink(missing_ok=True)


NO_DRAIN = Drain(None)


def find_folder() -> Path | None:
    """Where hook and processes meet; None outside of a cluster."""
    name = os.environ.get(FOLDER_VARIABLE)
    return Path(name) if name else None


@contextlib.contextmanager
def hold_pod() -> Iterator[Drain]:
    """Let the pod wait for this process, which saves when it is asked."""
    folder = find_folder()
    with _name_process(folder, "work"):
        yield Drain(folder)


@contextlib.contextmanager
def lead_pod() -> Iterator[None]:
    """Let the pod wait for this process, which a SIGTERM makes end in good order."""
    with _name_process(find_folder(), "lead"):
        yield


@contextlib.contextmanager
def _name_process(folder: Path | None, kind: str) -> Iterator[None]:
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    own = _locate_own(folder, kind)
    own.touch()
    try:
        yield
    finally:
        own.unlink(missing_ok=True)


def _locate_own(folder: Path, kind: str) -> Path:
    return folder / f"{kind}-{os.getpid()}"


def drain_pod(folder: Path, most_seconds: float = MOST_SECONDS) -> bool:
    """The hook's side: ask, and wait; returns whether all had saved in time."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _REQUEST).touch()
    for pid in _list_alive(folder, "lead"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + most_seconds
    while _list_alive(folder, "lead") or _list_alive(folder, "work"):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _list_alive(folder: Path, kind: str) -> list[int]:
    """Those named in the folder that have not died since."""
    pids = [int(path.name.rpartition("-")[2]) for path in folder.glob(f"{kind}-*")]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def await_handler(pid: int, most_seconds: float = START_SECONDS) -> bool:
    """Wait until a process has a handler for SIGTERM; returns whether it has one.

    A container's first process ignores the signal until then: told to go in its first seconds, a
    pod would stay for its whole grace period, and the next attempt would wait for it.
    """
    deadline = time.monotonic() + most_seconds
    while not _catches(pid, signal.SIGTERM):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _catches(pid: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(line.partition(":")[2] for line in lines if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def main() -> int:
    """The hook; returns the exit code."""
    folder = find_folder()
    has_saved = folder is None or drain_pod(folder)
    await_handler(pid=1)
    return 0 if has_saved else 1


if __name__ == "__main__":
    sys.exit(main())
