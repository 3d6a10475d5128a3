"""The hard stop."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam_runtime.errors import BudgetError
from loam_runtime.synthesis.budget import BudgetLedger


@given(
    st.integers(1, 2000),
    st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300)), min_size=1, max_size=30),
)
def test_never_overspent(limit: int, requests: list[tuple[int, int]]) -> None:
    """Whatever answers cost up to their reservation, spending never passes the limit."""

    async def spend() -> None:
        ledger = BudgetLedger(max_tokens=limit)

        async def ask(reserved: int, actual: int) -> None:
            await ledger.reserve(1, reserved)
            await asyncio.sleep(0)
            ledger.settle(1, reserved, min(reserved, actual))
            assert ledger.spent_tokens <= limit

        await asyncio.gather(*(ask(*request) for request in requests), return_exceptions=True)
        assert ledger.spent_tokens <= limit

    asyncio.run(spend())


def test_waits_for_room() -> None:
    """A request that fits once open ones are settled waits; stopping would waste budget."""

    async def spend() -> int:
        ledger = BudgetLedger(max_tokens=100)
        await ledger.reserve(1, 90)
        second = asyncio.create_task(ledger.reserve(1, 50))
        await asyncio.sleep(0)
        assert not second.done()
        ledger.settle(1, 90, 20)
        await second
        return ledger.spent_tokens

    assert asyncio.run(spend()) == 20


def test_message_says_what_was_spent() -> None:
    """The reader learns what was spent, of what, and that nothing is lost."""

    async def spend() -> None:
        ledger = BudgetLedger(max_requests=2, spent_requests=2, spent_tokens=77)
        await ledger.reserve(1, 1)

    with pytest.raises(BudgetError, match=r"2 of 2 requests.*kept"):
        asyncio.run(spend())


def test_refused_request_costs_nothing() -> None:
    """A rate-limited request gives its reservation back; a dropped one does not."""

    async def spend() -> tuple[int, int]:
        ledger = BudgetLedger(max_tokens=100)
        await ledger.reserve(1, 60)
        ledger.settle(1, 60, None)
        refused = ledger.spent_tokens
        await ledger.reserve(1, 60)
        ledger.settle(1, 60, 60)
        return refused, ledger.spent_tokens

    assert asyncio.run(spend()) == (0, 60)
