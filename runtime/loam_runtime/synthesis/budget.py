"""The hard stop: tokens and requests are reserved before anything is sent."""

from __future__ import annotations

import asyncio

from loam_runtime.errors import BudgetError


class BudgetLedger:
    """Counts what the teacher has cost and refuses what might exceed the limits.

    A request is charged its worst case (prompt and `max_tokens`) when it is sent, and its true
    cost when it is answered. One that was dropped or timed out keeps its charge, since the
    endpoint may bill it; one that was refused for load costs nothing.

    Args:
        max_requests: 0 for no limit.
        max_tokens: prompt and answer tokens together; 0 for no limit.
        spent_requests, spent_tokens: what earlier starts of the same run have spent.
    """

    def __init__(
        self,
        max_requests: int = 0,
        max_tokens: int = 0,
        *,
        spent_requests: int = 0,
        spent_tokens: int = 0,
    ) -> None:
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self.spent_requests = spent_requests
        self.spent_tokens = spent_tokens
        self._open_requests = 0
        self._open_tokens = 0
        self._settled = asyncio.Event()

    async def reserve(self, num_requests: int, num_tokens: int) -> None:
        """Charge the worst case; waits while open requests may still give room back.

        Raises:
            BudgetError: even if every open request cost nothing, this one would not fit.
        """
        while not self._fits(num_requests, num_tokens, with_open=True):
            if not self._fits(num_requests, num_tokens, with_open=False):
                raise self._describe()
            self._settled.clear()
            await self._settled.wait()
        self._open_requests += num_requests
        self._open_tokens += num_tokens

    def settle(self, num_requests: int, reserved_tokens: int, spent_tokens: int | None) -> None:
        """Replace a reservation by its cost; None where the endpoint did no work."""
        self._open_requests -= num_requests
        self._open_tokens -= reserved_tokens
        if spent_tokens is not None:
            self.spent_requests += num_requests
            self.spent_tokens += spent_tokens
        self._settled.set()

    def _fits(self, num_requests: int, num_tokens: int, *, with_open: bool) -> bool:
        requests = self.spent_requests + num_requests + (self._open_requests if with_open else 0)
        tokens = self.spent_tokens + num_tokens + (self._open_tokens if with_open else 0)
        return (not self._max_requests or requests <= self._max_requests) and (
            not self._max_tokens or tokens <= self._max_tokens
        )

    def _describe(self) -> BudgetError:
        parts = []
        if self._max_requests:
            parts.append(f"{self.spent_requests} of {self._max_requests} requests")
        if self._max_tokens:
            parts.append(f"{self.spent_tokens} of {self._max_tokens} tokens")
        return BudgetError(
            f"synthesis.budget is spent: {' and '.join(parts)}; the next request may not fit.",
            remedy="Raise synthesis.budget and run again: every answer so far is kept and is not "
            "asked for again.",
        )
