"""How fast a teacher is asked."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam_runtime.synthesis.faults import AttemptFailed
from loam_runtime.synthesis.health import TRIP_AFTER, Health
from loam_runtime.synthesis.http_failures import read_retry_after
from loam_runtime.synthesis.pacing import AdaptiveLimit, RetryPolicy
from loam_runtime.synthesis.refusals import MOST_IN_A_ROW, Refusals


def test_burst_finds_the_cap() -> None:
    """32 refusals among 64 requests leave 32 slots at once; cutting later would send the whole
    queue into the refusals."""
    limit = AdaptiveLimit(64)
    for _ in range(32):
        limit.record_rate_limit()
    assert limit.current == 32


def test_scattered_refusals_do_not_throttle() -> None:
    """With one refusal in ten answers the limit stays near its maximum; a cut by a factor for
    each was measured to fall to one request in flight."""
    limit = AdaptiveLimit(64)
    for number in range(1000):
        limit.record_rate_limit() if number % 10 == 0 else limit.record_success()
    assert limit.current > 55


def test_share_of_refusals_that_is_borne() -> None:
    """The limit falls where more than 13 % of what comes back is refused, and rises where less
    is: the share that the documentation states."""
    for percent, is_borne in ((12, True), (14, False)):
        limit = AdaptiveLimit(1000)
        for _ in range(500):
            limit.record_rate_limit()
        for number in range(2000):
            is_refused = (number + 1) * percent // 100 > number * percent // 100
            limit.record_rate_limit() if is_refused else limit.record_success()
        assert (limit.current > 500) is is_borne


def test_recovers_from_one() -> None:
    """From a single slot, successes double the limit in a few rounds."""
    limit = AdaptiveLimit(64)
    for _ in range(200):
        limit.record_rate_limit()
    assert limit.current == 1
    for _ in range(40):
        limit.record_success()
    assert limit.current >= 8


def test_never_over_the_limit_and_retries_first() -> None:
    """At most `maximum` are inside; a retry overtakes first attempts, else it ends the run late."""

    async def use() -> list[str]:
        limit = AdaptiveLimit(2)
        inside = 0
        order: list[str] = []

        async def work(name: str, priority: int) -> None:
            nonlocal inside
            async with limit.slot(priority):
                inside += 1
                assert inside <= 2
                order.append(name)
                await asyncio.sleep(0)
                inside -= 1

        tasks = [asyncio.create_task(work(f"first{i}", 0)) for i in range(5)]
        tasks.append(asyncio.create_task(work("retry", -1)))
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(use()).index("retry") == 2


def test_cancelled_waiter_leaves_no_hole() -> None:
    """A request cancelled in the queue must not take a slot with it, or the pool dries up."""

    async def use() -> None:
        limit = AdaptiveLimit(1)
        async with limit.slot():
            waiting = asyncio.create_task(_hold(limit))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.wait_for(_hold(limit), 1)

    asyncio.run(use())


async def _hold(limit: AdaptiveLimit) -> None:
    async with limit.slot():
        pass


@given(st.floats(0.01, 100), st.integers(1, 2000))
def test_never_sooner_than_asked(asked: float, num_attempts: int) -> None:
    """Retry-After is a lower bound: an early retry is refused again, and may be punished."""
    failure = AttemptFailed("HTTP 429", retry_after_seconds=asked, is_rate_limit=True)
    assert RetryPolicy().choose_delay(failure, num_attempts) >= asked


@given(st.integers(1, 2000))
def test_pauses_double(num_attempts: int) -> None:
    """From 0.1 to 0.2 s at first up to the maximum, in the long run as well: an attempt number
    that overflows would end the run."""
    delay = RetryPolicy().choose_delay(AttemptFailed("HTTP 503"), num_attempts)
    longest = min(20.0, 0.1 * 2.0 ** min(num_attempts, 99))
    assert longest / 2 <= delay <= longest


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 60.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, 0.0),
        ({"retry-after": "-4"}, 0.0),
        ({}, 0.0),
    ],
)
def test_retry_after_forms(headers: dict[str, str], seconds: float) -> None:
    """Seconds, milliseconds and dates are understood; nonsense is no reason to fail."""
    assert read_retry_after(headers, now=0.0) == seconds


def test_patience() -> None:
    """A teacher that never answered counts as down sooner than one that did."""
    now = [0.0]
    policy = RetryPolicy(patience_seconds=100, first_patience_seconds=10)
    health = Health(policy, clock=lambda: now[0])
    now[0] = 11
    assert health.is_down
    health.record_answer()
    now[0] = 100
    assert not health.is_down
    now[0] = 112
    assert health.is_down


def test_refused_before_the_first_answer() -> None:
    """What is under way decides: one bad prompt among the first, which is refused sooner than any
    other is answered, would else end every start of the run."""

    async def use(is_answered: bool) -> bool:
        refusals = Refusals()
        with refusals.watch():
            verdict = asyncio.create_task(refusals.is_alone())
            await asyncio.sleep(0)
            assert not verdict.done()
        if is_answered:
            refusals.record_answer()
        return await verdict

    assert asyncio.run(use(is_answered=True))
    assert not asyncio.run(use(is_answered=False))


def test_too_many_refused_in_a_row() -> None:
    """Refusals without an answer between them are no matter of single prompts; with answers
    between them a run may have any number."""

    async def use() -> list[bool]:
        refusals = Refusals()
        for _ in range(2 * MOST_IN_A_ROW):
            refusals.record_answer()
            assert await refusals.is_alone()
        refusals.record_answer()
        return [await refusals.is_alone() for _ in range(MOST_IN_A_ROW)]

    assert asyncio.run(use()) == [True] * (MOST_IN_A_ROW - 1) + [False]


def test_breaker_lets_probes_through() -> None:
    """In an outage one request at a time is sent, ever more seldom, and an answer frees all:
    else every request of the run would spend its tries, and the budget, on a dead address."""

    async def use() -> tuple[list[float], bool]:
        now = [0.0]
        health = Health(RetryPolicy(), clock=lambda: now[0])
        for _ in range(TRIP_AFTER):
            health.record_failure("HTTP 500", is_first=True)
        probes = []
        for _ in range(3):
            turn = asyncio.create_task(health.await_turn())
            await asyncio.sleep(0)
            while not turn.done():
                now[0] += 0.25
                turn.cancel()  # sleeps by the real clock: asked again at the new time
                turn = asyncio.create_task(health.await_turn())
                await asyncio.sleep(0)
            probes.append(now[0])
        waiting = asyncio.create_task(health.await_turn())
        await asyncio.sleep(0)
        was_held = not waiting.done()
        health.record_answer()
        await waiting
        return probes, was_held

    assert asyncio.run(use()) == ([0.5, 1.5, 3.5], True)


def test_known_bad_prompts_open_no_breaker() -> None:
    """Prompts that failed before are not taken for an outage: the last few bad ones of a run
    would hold it until the teacher counts as down."""
    health = Health(RetryPolicy(), clock=lambda: 0.0)  # the time of a probe never comes
    for _ in range(10 * TRIP_AFTER):
        health.record_failure("HTTP 500")
    asyncio.run(asyncio.wait_for(health.await_turn(), 1))
