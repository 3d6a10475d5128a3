"""The hard stop."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam_runtime.errors import BudgetError
from loam_runtime.synthesis.budget import PICOS, Amount, BudgetLedger, PriceList
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest

COUNT = st.integers(0, 300)


@given(
    st.integers(0, 20),
    st.integers(0, 2000),
    st.floats(0, 0.01),
    st.tuples(st.floats(0, 50), st.floats(0, 50)),
    st.lists(st.tuples(st.text(max_size=40), st.integers(1, 300), COUNT, COUNT, st.booleans())),
    st.integers(1, 8),
)
def test_never_overspent(max_requests, max_tokens, max_cost, prices, asked, size):
    """Whatever comes back, with however many requests open at once, alone or in batches, and
    whatever the prices: no limit is passed by a single request."""
    prices = PriceList(*prices)

    async def spend() -> None:
        ledger = BudgetLedger(max_requests, max_tokens, max_cost)

        async def ask(prompt, most, prompt_tokens, tokens, is_refused) -> None:
            request = TeacherRequest((("user", prompt),), max_tokens=most)
            worst = [prices.reserve(request)] * size
            count = await ledger.reserve(worst)
            await asyncio.sleep(0)
            prompt_tokens = min(prompt_tokens, request.bound_prompt_tokens())
            answer = TeacherAnswer("", prompt_tokens, min(tokens, most))
            spent = sum([prices.charge(answer)] * count, Amount())
            ledger.settle(sum(worst[:count], Amount()), None if is_refused else spent)
            check()

        def check() -> None:
            spent = ledger.spent
            assert not max_requests or spent.requests <= max_requests
            assert not max_tokens or spent.tokens <= max_tokens
            assert not round(max_cost * PICOS) or spent.picos <= round(max_cost * PICOS)

        await asyncio.gather(*(ask(*each) for each in asked))

    with contextlib.suppress(BudgetError):
        asyncio.run(spend())


def test_waits_for_room() -> None:
    """A request that fits once open ones are settled waits; stopping would waste budget."""

    async def spend() -> int:
        ledger = BudgetLedger(max_tokens=100)
        await ledger.reserve([Amount(1, 90)])
        second = asyncio.create_task(ledger.reserve([Amount(1, 50)]))
        await asyncio.sleep(0)
        assert not second.done()
        ledger.settle(Amount(1, 90), Amount(1, 20))
        await second
        return ledger.spent.tokens

    assert asyncio.run(spend()) == 20


def test_a_batch_is_cut_once_nothing_else_is_open() -> None:
    """What goes out of a batch depends on what was spent, and never on what happens to be open:
    or else a run that is started again would make other batches than those in work."""

    async def spend() -> tuple[int, int]:
        ledger = BudgetLedger(max_tokens=100)
        first = await ledger.reserve([Amount(1, 60)])
        batch = asyncio.create_task(ledger.reserve([Amount(1, 25)] * 4))
        await asyncio.sleep(0)
        assert not batch.done()
        ledger.settle(Amount(1, 60), Amount(1, 40))
        return first, await batch

    assert asyncio.run(spend()) == (1, 2)


def test_a_smaller_request_does_not_pass_one_that_waits() -> None:
    """With several requests open the budget pays for those that it would pay for one by one; or
    else the rows of a spent budget would depend on how fast each answer came."""

    async def spend() -> list[bool]:
        ledger = BudgetLedger(max_tokens=100)
        await ledger.reserve([Amount(1, 60)])
        waiting = [asyncio.create_task(ledger.reserve([Amount(1, most)])) for most in (50, 30)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        ledger.settle(Amount(1, 60), Amount(1, 40))
        await waiting[0]
        await asyncio.sleep(0)
        is_done = [task.done() for task in waiting]
        waiting[1].cancel()
        return is_done

    assert asyncio.run(spend()) == [True, False]


def test_open_requests_count() -> None:
    """Fifty requests at once against room for ten: ten go out; were open ones not counted, all
    would, and the budget be passed fivefold."""

    async def spend() -> int:
        ledger = BudgetLedger(max_cost=1.0)
        worst = Amount(1, 100_000, PICOS // 10)
        waiting = [asyncio.create_task(ledger.reserve([worst])) for _ in range(50)]
        await asyncio.sleep(0)
        num_sent = sum(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return num_sent

    assert asyncio.run(spend()) == 10


def test_message_says_what_was_spent() -> None:
    """The reader learns what was spent, of what, and that nothing is lost."""

    async def spend() -> None:
        ledger = BudgetLedger(2, max_cost=1.5, spent=Amount(2, 77, PICOS // 4))
        await ledger.reserve([Amount(1, 1)])

    with pytest.raises(BudgetError, match=r"2 of 2 requests and 0.2500 of 1.5000 in money.*kept"):
        asyncio.run(spend())


def test_refused_request_costs_nothing() -> None:
    """A rate-limited request gives its reservation back; a dropped one does not."""

    async def spend() -> tuple[int, int]:
        ledger = BudgetLedger(max_tokens=100)
        await ledger.reserve([Amount(1, 60)])
        ledger.settle(Amount(1, 60), None)
        refused = ledger.spent.tokens
        await ledger.reserve([Amount(1, 60)])
        ledger.settle(Amount(1, 60), Amount(1, 60))
        return refused, ledger.spent.tokens

    assert asyncio.run(spend()) == (0, 60)


def test_price_of_an_exchange() -> None:
    """Prices are for a million tokens, exact to the pico: rounding would let a million small
    requests pass the limit."""
    prices = PriceList(prompt=0.15, completion=0.60)
    assert Amount(picos=prices.price(1_000_000, 1_000_000)).money == 0.75
    assert prices.price(1, 1) * 1_000_000 == prices.price(1_000_000, 1_000_000)


@given(st.text())
def test_prompt_bound_holds_for_any_script(text: str) -> None:
    """One byte is one token at worst: a Chinese or broken prompt cannot cost more than was
    reserved for it."""
    request = TeacherRequest((("user", text),), max_tokens=1)
    assert request.bound_prompt_tokens() >= len(text.encode("utf-8", "surrogatepass"))
    assert request.bound_prompt_tokens() >= request.estimate_prompt_tokens()


def test_a_spent_budget_is_spent_for_all() -> None:
    """A request that still fits is refused behind one that did not: a teacher with small prompts
    would go on to write rows for which the judge, with large ones, is not paid any more."""

    async def spend() -> None:
        ledger = BudgetLedger(max_tokens=100)
        with pytest.raises(BudgetError):
            await ledger.reserve([Amount(1, 101)])
        await ledger.reserve([Amount(1, 1)])

    with pytest.raises(BudgetError):
        asyncio.run(spend())
