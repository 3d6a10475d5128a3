"""How fast a teacher is asked: how many requests at once, when again, and when to give up."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from loam_runtime.synthesis.faults import AttemptFailed

GROWTH_PER_SUCCESS = 0.15


class AdaptiveLimit:
    """Admits requests up to a limit that follows what the endpoint bears.

    A rate-limited request takes its slot with it (-1); a success gives back 0.15 of a slot, more
    when few are left. So a burst of refusals at a true cap brings the limit to the cap at once
    instead of sending the whole queue into it, and the steady cost of probing stays near 15 %.
    Isolated refusals (10 % of answers) are outgrown by the successes around them: a multiplicative
    cut per refusal was measured to fall to one request in flight there.

    Waiting requests are served by `priority` (lower first), then in order of arrival.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._limit = float(maximum)
        self._num_active = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._num_arrived = 0

    @property
    def current(self) -> int:
        """Requests that may be open now."""
        return int(self._limit)

    @asynccontextmanager
    async def slot(self, priority: int = 0) -> AsyncIterator[None]:
        """Hold one of the slots; queue until one is free."""
        await self._enter(priority)
        try:
            yield
        finally:
            self._num_active -= 1
            self._admit()

    def record_success(self) -> None:
        """An answer came: allow a little more."""
        grown = self._limit + max(GROWTH_PER_SUCCESS, 1 / self._limit)
        self._limit = min(float(self._maximum), grown)

    def record_rate_limit(self) -> None:
        """The endpoint refused for load: withdraw the slot."""
        self._limit = max(1.0, self._limit - 1)

    async def _enter(self, priority: int) -> None:
        if self._num_active < self.current and not self._waiting:
            self._num_active += 1
            return
        admitted = asyncio.get_running_loop().create_future()
        self._num_arrived += 1
        heapq.heappush(self._waiting, (priority, self._num_arrived, admitted))
        self._admit()
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():
                self._num_active -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and self._num_active < self.current:
            _, _, admitted = heapq.heappop(self._waiting)
            if not admitted.done():
                self._num_active += 1
                admitted.set_result(None)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is made again, and when the teacher counts as down.

    Attributes:
        max_tries: attempts of one request that fail for other reasons than load.
        base_delay_seconds: the shortest first pause where the endpoint names none (the longest is
            twice that); both double with every attempt of the request, whatever it failed for.
        max_delay_seconds: where the doubling ends.
        patience_seconds: longest time without any answer before the teacher counts as down; also
            the longest Retry-After that is waited for.
        first_patience_seconds: the same as long as it has never answered: a wrong address should
            be said soon.
    """

    max_tries: int = 8
    base_delay_seconds: float = 0.1
    max_delay_seconds: float = 20.0
    patience_seconds: float = 180.0
    first_patience_seconds: float = 60.0

    def choose_delay(self, failure: AttemptFailed, num_attempts: int) -> float:
        """Seconds until the next attempt: never sooner than the endpoint asked, with jitter.

        Args:
            num_attempts: of this request so far, refusals for load included: what an overloaded
                endpoint gets must become less.
        """
        asked = failure.retry_after_seconds
        if asked > 0:
            return asked * random.uniform(1.0, 1.15)
        num_doublings = min(num_attempts, 30)  # with a thousand a float overflows
        longest = min(self.max_delay_seconds, self.base_delay_seconds * 2**num_doublings)
        return longest * random.uniform(0.5, 1.0)
