"""Whether a process of this host that left its name somewhere still runs."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path


def is_running(pid: int, started: str) -> bool:
    """Whether it does, and is not another one that was given the same number.

    Args:
        started: what `read_start` said of it.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process: there is one
        pass
    return read_start(pid) == started


def read_start(pid: int) -> str | None:
    """When a process started, unique on this host; None for a zombie, "" where unknown."""
    with contextlib.suppress(OSError):
        # The name in field 2 may hold blanks and brackets; state is field 3, start field 22.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else f"{_read_boot_id()}-{fields[19]}"
    return ""


@functools.cache
def _read_boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
