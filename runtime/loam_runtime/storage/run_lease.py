"""The lock of a run is a lease: its holder writes it anew, and who no longer does counts as gone.

Nothing compares the clocks of two machines: whoever waits looks for a change, by its own clock.
The lease spares the next one a visit by hand; what keeps a late writer out is the fencing token.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from loam_runtime.errors import LoamError

RENEW_SECONDS = 60.0
PERIODS_TO_EXPIRE = 3  # renewals that may fail in a row before the holder counts as gone
_LOOKS_PER_PERIOD = 12

logger = logging.getLogger(__name__)


def outlasts(read_etag: Callable[[], str], etag: str, renew_seconds: float) -> bool:
    """Watch a lock until it changes or has expired.

    Args:
        read_etag: of the lock as it is now.
        etag: of the lock that was found.
        renew_seconds: as its holder wrote it.

    Returns:
        Whether nobody renewed it for `PERIODS_TO_EXPIRE` periods.
    """
    began = time.monotonic()
    while read_etag() == etag:
        if time.monotonic() - began >= PERIODS_TO_EXPIRE * renew_seconds:
            return True
        time.sleep(renew_seconds / _LOOKS_PER_PERIOD)
    return False


class Renewal:
    """Renews a lock from a thread of its own: a stage may be busy for an hour.

    Args:
        renew: writes the lock anew; what fails is tried again a period later.
        seconds: from one time to the next.
    """

    def __init__(self, renew: Callable[[], None], seconds: float) -> None:
        self._renew = renew
        self._seconds = seconds
        self._is_over = threading.Event()
        # A store that hangs must not keep the process.
        threading.Thread(target=self._go_on, name="run-lock", daemon=True).start()

    def stop(self) -> None:
        """Not again; one that is under way may still end."""
        self._is_over.set()

    def _go_on(self) -> None:
        while not self._is_over.wait(self._seconds):
            try:
                self._renew()
            except LoamError as error:
                logger.warning("The lock of the run was not renewed: %s", error)
