"""Ctrl-C and SIGTERM, so that they cannot be lost.

Python raises KeyboardInterrupt wherever the main thread happens to be. In a destructor, or below a
library's bare `except:`, it is swallowed, and a run that was told to stop would go on to its end.
"""

from __future__ import annotations

import signal

_is_requested = False


def install() -> None:
    """From now on both signals raise KeyboardInterrupt, and are remembered."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def _stop(number: int, frame: object) -> None:
    global _is_requested
    _is_requested = True
    raise KeyboardInterrupt


def raise_if_requested() -> None:
    """To be called where stopping is cheap.

    Raises:
        KeyboardInterrupt: a signal came, and what it raised was swallowed.
    """
    if _is_requested:
        raise KeyboardInterrupt
