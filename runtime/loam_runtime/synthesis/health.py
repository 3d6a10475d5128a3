"""Whether the teacher as a whole still answers, and what is sent while it does not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from loam_runtime.synthesis.pacing import RetryPolicy

# Requests that fail at first sight without one answer between them. With one failure in five by
# chance alone this comes once in 400,000.
TRIP_AFTER = 8
FIRST_PROBE_SECONDS = 0.5


class Health:
    """A circuit breaker, and the patience after which the teacher counts as down.

    While the breaker is open, single requests go out as probes, ever more seldom. So an outage
    costs neither the budget nor the tries of every request that meets it. Any answer closes the
    breaker. Requests that have failed before do not open it: a prompt that the teacher cannot
    bear is no sign of an outage.

    Args:
        policy: holds the patience and the longest pause between probes.
        clock: monotonic seconds; replaced in tests.
    """

    def __init__(self, policy: RetryPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._last_answer = clock()
        self._has_answered = False
        self._num_failed = 0
        self._num_probes = 0
        self._next_probe = 0.0
        self._is_closed = asyncio.Event()
        self._is_closed.set()
        self.last_reason = ""

    def record_answer(self) -> None:
        """The teacher answered: it is up."""
        self._has_answered = True
        self._last_answer = self._clock()
        self._num_failed = self._num_probes = 0
        self._is_closed.set()

    def record_failure(self, reason: str, *, is_first: bool = False) -> None:
        """An attempt failed.

        Args:
            reason: kept for the message.
            is_first: the request has not failed before, and did not fail for load.
        """
        self.last_reason = reason
        self._num_failed += is_first
        if self._num_failed >= TRIP_AFTER and self._is_closed.is_set():
            self._is_closed.clear()
            self._next_probe = self._clock() + FIRST_PROBE_SECONDS

    def resume(self) -> None:
        """Start the patience anew; time in which nothing was asked does not count."""
        self._last_answer = self._clock()

    def release(self) -> None:
        """Let all that wait for their turn go: the client is stopping."""
        self._is_closed.set()

    @property
    def is_open(self) -> bool:
        """Only probes are sent."""
        return not self._is_closed.is_set()

    async def await_turn(self) -> None:
        """Return at once while the teacher answers, else when this request is the next probe."""
        while self.is_open:
            pause = self._next_probe - self._clock()
            if pause <= 0:
                self._num_probes += 1
                self._next_probe = self._clock() + self._choose_pause()
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_closed.wait(), pause)

    def _choose_pause(self) -> float:
        return min(self._policy.max_delay_seconds, FIRST_PROBE_SECONDS * 2**self._num_probes)

    @property
    def silent_seconds(self) -> float:
        """Time since the last answer."""
        return self._clock() - self._last_answer

    @property
    def is_down(self) -> bool:
        """No answer for longer than the patience."""
        policy = self._policy
        patience = policy.patience_seconds
        if not self._has_answered:
            patience = min(patience, policy.first_patience_seconds)
        return self.silent_seconds > patience
