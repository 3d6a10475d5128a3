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


@given(st.floats(0.01, 100), st.integers(0, 20))
def test_never_sooner_than_asked(asked: float, num_failures: int) -> None:
    """Retry-After is a lower bound: an early retry is refused again, and may be punished."""
    failure = AttemptFailed("HTTP 429", retry_after_seconds=asked, is_rate_limit=True)
    assert RetryPolicy().choose_delay(failure, num_failures) >= asked


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
