"""Waiting for what another process does, with an end and a name for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.05  # between two looks at a condition, not for order


def wait_until(
    look: Callable[[], T],
    what: str,
    timeout_seconds: float = 300,
    poll_seconds: float = POLL_SECONDS,
) -> T:
    """Look again and again until there is something to see; return that.

    Raises:
        TimeoutError: there was nothing in time; names `what` was waited for.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {timeout_seconds:.0f} s for: {what}")
        time.sleep(poll_seconds)
