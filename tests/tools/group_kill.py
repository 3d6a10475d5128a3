"""Out of memory as on a node of today, also where the kernel's control groups are of version 1.

With version 2 the kubelet asks the kernel to end a container as a whole when one of its processes
was killed for memory. Version 1 ends that process alone, and its container limps on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup/memory")  # only there with version 1
LOOK_SECONDS = 0.3


class GroupKill:
    """Ends containers in which the kernel has killed a process for memory, while it runs."""

    def __init__(self) -> None:
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="group-kill", daemon=True)

    def start(self) -> None:
        """Start it, where the kernel does not do so itself."""
        if (GROUPS / "memory.oom_control").exists():
            self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        seen: set[Path] = set()
        while not self._is_over.wait(LOOK_SECONDS):
            hit = set(_find_hit())
            # One look later, so that containerd has heard of it before the container ends.
            for group in hit & seen:
                _kill_all(group)
            seen = hit


def _find_hit() -> Iterator[Path]:
    with contextlib.suppress(OSError):  # pods come and go; the next look is soon
        yield from (one for one in GROUPS.glob("kubepods/**/pod*/*/") if _count_kills(one))


def _count_kills(group: Path) -> int:
    with contextlib.suppress(OSError):  # it may be gone
        for line in (group / "memory.oom_control").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0


def _kill_all(group: Path) -> None:
    with contextlib.suppress(OSError):
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
