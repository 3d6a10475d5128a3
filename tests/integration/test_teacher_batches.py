"""The provider's batch mode, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tools.batch_server import BatchServer, serve_batches
from tests.tools.fault_teacher import Reply, serve_script
from tests.tools.waiting import wait_until

from loam_runtime.errors import BudgetError, TeacherError
from loam_runtime.synthesis.budget import Amount, BudgetLedger
from loam_runtime.synthesis.client import TeacherClient
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.journal import Journal
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.pacing import RetryPolicy
from loam_runtime.synthesis.provider_batches import BatchTeacher

REQUESTS = [TeacherRequest((("user", f"question {i}"),), max_tokens=50) for i in range(5)]
POLLS = (0.01, 0.02)


# A failure that the client sees ends the run at once.
HASTY = RetryPolicy(patience_seconds=0.0, first_patience_seconds=0.0)


async def ask(
    base_url: str,
    folder: Path,
    *,
    requests: list[TeacherRequest] = REQUESTS,
    budget: dict[str, int] | None = None,
    policy: RetryPolicy | None = None,
    batch_size: int = 1000,
    patience_seconds: float = 60.0,
    key: str = "k",
) -> tuple[list[TeacherAnswer | None], Amount]:
    """One start of a run."""
    teacher = BatchTeacher(
        OpenAICompatibleTeacher("m", base_url, key),
        poll_seconds=POLLS,
        patience_seconds=patience_seconds,
    )
    teacher.batch_size = batch_size
    try:
        async with Journal(folder, "run") as journal:
            teacher.book = journal
            ledger = BudgetLedger(**(budget or {}), spent=journal.spent)
            client = TeacherClient(teacher, journal, ledger, policy=policy)
            return await client.ask_many(requests), ledger.spent
    finally:
        await teacher.close()


def test_one_batch_for_all(tmp_path: Path) -> None:
    """Requests go out as one file, answers come back to their own requests, and are journaled."""
    with serve_batches() as server:
        answers, spent = asyncio.run(ask(server.base_url, tmp_path))
        assert [answer.text for answer in answers] == [f"re: question {i}" for i in range(5)]
        assert spent == Amount(5, 300)
        assert asyncio.run(ask(server.base_url, tmp_path)) == (answers, spent)
    assert len(server.batches) == 1


def test_resumed_by_its_id(tmp_path: Path) -> None:
    """A run that ends while the provider works waits for the same batch when it starts again:
    it is not made, nor charged, a second time."""
    with serve_batches() as server:
        _end_while_held(server, tmp_path)
        _end_while_held(server, tmp_path)
        server.is_held = False
        answers, spent = asyncio.run(ask(server.base_url, tmp_path))
    assert all(answers)
    assert len(server.batches) == 1
    assert spent == Amount(5, 300)


def _end_while_held(
    server: BatchServer, folder: Path, budget: dict[str, int] | None = None
) -> None:
    """A start that ends, as a kill would end it, once it waits for its batch."""
    server.is_held = True
    server.looked.clear()
    asyncio.run(_end_once(server.looked.is_set, server, folder, budget))


async def _end_once(
    is_so: Callable[[], bool],
    server: BatchServer,
    folder: Path,
    budget: dict[str, int] | None = None,
) -> None:
    start = asyncio.create_task(ask(server.base_url, folder, budget=budget))
    await asyncio.to_thread(wait_until, is_so, "the moment to end")
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start


def test_what_expired_goes_out_again(tmp_path: Path) -> None:
    """A judge's question stands for no other: unanswered, its row would count for nothing. Lost
    while the second batch is in work, a run waits for that one; and each line is paid once."""
    with serve_batches() as server:

        def answer_and_hold(question: str) -> str:
            server.is_held = True
            return f"re: {question}"

        server.write, server.answered_before_expiry = answer_and_hold, 2
        asyncio.run(_end_once(lambda: len(server.batches) == 2, server, tmp_path))
        server.is_held = False
        answers, spent = asyncio.run(ask(server.base_url, tmp_path))
    assert [answer.text for answer in answers] == [f"re: question {i}" for i in range(5)]
    assert spent == Amount(5, 300)
    assert len(server.batches) == 2
    assert set(server.answered.values()) == {1}


def test_what_expires_unanswered_is_left(tmp_path: Path) -> None:
    """A provider that is too busy for its first line would be asked for ever; what was answered
    before is not lost for it."""
    with serve_batches() as server:

        def answer_and_stop(question: str) -> str:
            server.answered_before_expiry = 0
            return f"re: {question}"

        server.write, server.answered_before_expiry = answer_and_stop, 2
        answers, spent = asyncio.run(ask(server.base_url, tmp_path))
    assert [bool(answer) for answer in answers] == [True, True, False, False, False]
    assert spent == Amount(2, 120)
    assert len(server.batches) == 2


@pytest.mark.parametrize("place", ["batches", "files"])
def test_blip_while_a_batch_is_in_work(tmp_path: Path, place: str) -> None:
    """A look that fails, at the batch or at its answers, is made again and costs nothing: that no
    answer came for hours is what batches are like, and no reason to end the run."""
    with serve_batches() as server:
        server.num_blips[place] = 8  # more than the package tries by itself
        answers, spent = asyncio.run(ask(server.base_url, tmp_path, policy=HASTY))
    assert all(answers)
    assert spent == Amount(5, 300)
    assert len(server.batches) == 1


def test_provider_stays_away(tmp_path: Path) -> None:
    """After the patience the error names the batch and the way on; the next start waits for the
    same batch, and none of it is charged twice."""
    with serve_batches() as server:
        server.num_blips["batches"] = 10**6
        with pytest.raises(TeacherError, match=r"batch-0; last failure.*the same command"):
            asyncio.run(ask(server.base_url, tmp_path, patience_seconds=0.2))
        server.num_blips.clear()
        answers, spent = asyncio.run(ask(server.base_url, tmp_path))
    assert all(answers)
    assert spent == Amount(5, 300)
    assert len(server.batches) == 1


def test_making_fails_while_another_is_in_work(tmp_path: Path) -> None:
    """A provider that works on one batch is not down: that the next one cannot be made is tried
    again, however long ago the last answer came, and costs nothing."""
    policy = RetryPolicy(
        base_delay_seconds=0.01,
        max_delay_seconds=0.05,
        patience_seconds=0.3,
        first_patience_seconds=0.3,
    )
    with serve_batches() as server:
        server.is_held = True
        server.num_unmade = 30
        answers, spent = asyncio.run(ask(server.base_url, tmp_path, policy=policy, batch_size=3))
    assert all(answers)
    assert spent == Amount(5, 300)
    assert len(server.batches) == 2


def test_answers_with_line_ends_of_unicode(tmp_path: Path) -> None:
    """U+2028, U+2029 and U+0085 stand in JSON as they are: a file cut there would lose answers
    that are paid."""
    question = "one \u2028 two \u2029 three \x85 four"
    requests = [TeacherRequest((("user", question),), max_tokens=50), *REQUESTS]
    with serve_batches() as server:
        answers, _ = asyncio.run(ask(server.base_url, tmp_path, requests=requests))
    assert [answer and answer.text for answer in answers[:2]] == [
        f"re: {question}",
        "re: question 0",
    ]


def test_a_batch_is_cut_to_the_budget(tmp_path: Path) -> None:
    """What fits of a batch is asked: all or nothing would leave the most of a budget unspent."""
    with serve_batches() as server:
        with pytest.raises(BudgetError, match="3 of 3 requests"):
            asyncio.run(ask(server.base_url, tmp_path, budget={"max_requests": 3}))
        assert server.num_answered == 3
        answers, spent = asyncio.run(ask(server.base_url, tmp_path, budget={"max_requests": 5}))
    assert [answer.text for answer in answers] == [f"re: question {i}" for i in range(5)]
    assert spent == Amount(5, 300)
    assert server.num_answered == 5


def test_the_rest_of_a_cut_batch(tmp_path: Path) -> None:
    """Answers cost less than their worst case: what was cut off is asked from what they leave."""
    with serve_batches() as server:
        budget = {"max_tokens": 4 * 60 + 76}  # four in their worst case do not leave room for one
        answers, spent = asyncio.run(ask(server.base_url, tmp_path, budget=budget))
    assert all(answers)
    assert spent == Amount(5, 300)
    assert _count_lines(server) == [4, 1]


def test_a_cut_batch_is_resumed_with_more_budget(tmp_path: Path) -> None:
    """A budget raised while a cut batch is in work changes the cut of what comes, not of what the
    provider works on: asked for anew it would be paid twice."""
    with serve_batches() as server:
        _end_while_held(server, tmp_path, budget={"max_requests": 3})
        server.is_held = False
        answers, spent = asyncio.run(ask(server.base_url, tmp_path))
    assert all(answers)
    assert spent == Amount(5, 300)
    assert _count_lines(server) == [3, 2]


def _count_lines(server: BatchServer) -> list[int]:
    return [
        len(server.files[batch["input_file_id"]].splitlines()) for batch in server.batches.values()
    ]


def test_equal_requests_are_one_line(tmp_path: Path) -> None:
    """Two rows may ask the same: it is asked once, and both have the answer."""
    with serve_batches() as server:
        requests = [*REQUESTS, *REQUESTS[:2]]
        answers, _ = asyncio.run(ask(server.base_url, tmp_path, requests=requests))
    assert [answer.text for answer in answers] == [f"re: question {i % 5}" for i in range(7)]
    assert _count_lines(server) == [5]


@pytest.mark.parametrize("is_own", [True, False])
def test_key_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_own: bool
) -> None:
    """Key and account of the environment go to the environment's address alone: the package would
    send them to any."""
    monkeypatch.setenv("OPENAI_API_KEY", "own-key")
    monkeypatch.setenv("OPENAI_ORG_ID", "own-account")
    with serve_batches() as server:
        own = server.base_url if is_own else "https://elsewhere.example/v1"
        monkeypatch.setenv("OPENAI_BASE_URL", own)
        asyncio.run(ask(server.base_url, tmp_path, key=""))
    keys = {headers["Authorization"] for headers in server.headers}
    accounts = {headers["OpenAI-Organization"] for headers in server.headers}
    assert keys == {"Bearer own-key" if is_own else "Bearer none"}
    assert accounts == {"own-account" if is_own else None}


def test_lost_answer_to_the_making(tmp_path: Path) -> None:
    """A batch that was made while the connection broke is found by its name, not made twice."""
    with serve_batches() as server:
        server.lose_next = True
        answers, _ = asyncio.run(ask(server.base_url, tmp_path))
    assert all(answers)
    assert len(server.batches) == 1


def test_one_line_refused(tmp_path: Path) -> None:
    """A request that its batch did not answer is missing alone, costs nothing, and is asked again
    by the next start."""
    with serve_batches() as server:
        server.refused = {"question 2"}
        answers, spent = asyncio.run(ask(server.base_url, tmp_path))
        assert [answer is None for answer in answers] == [i == 2 for i in range(5)]
        assert spent.tokens == 240
        server.refused = set()
        answers, _ = asyncio.run(ask(server.base_url, tmp_path))
    assert all(answers)
    assert server.num_answered == 6


def test_refused_parameters_are_learnt(tmp_path: Path) -> None:
    """A model that refuses max_tokens would refuse every line of every batch: the first batch
    teaches it, at no cost, and is not waited for again by the next start."""
    with serve_batches() as server:
        server.unknown = "max_tokens"
        answers, spent = asyncio.run(ask(server.base_url, tmp_path))
        assert all(answers)
        assert spent == Amount(5, 300)
        assert asyncio.run(ask(server.base_url, tmp_path)) == (answers, spent)
    assert len(server.batches) == 2
    sent = [json.loads(line)["body"] for line in server.files["file-0"].splitlines()]
    assert all(body["max_tokens"] == 50 for body in sent)


def test_no_batches_offered(tmp_path: Path) -> None:
    """An endpoint without batches is told apart from a wrong address."""
    with (
        serve_script(lambda call: Reply()) as server,  # knows no GET
        pytest.raises(TeacherError, match="to online"),
    ):
        asyncio.run(ask(server.base_url, tmp_path))


def test_failed_batch(tmp_path: Path) -> None:
    """A batch that failed is told with the provider's words, and the next start makes another:
    waiting for the failed one would fail for ever."""
    with serve_batches() as server:
        server.failure = "the model takes no batches"
        with pytest.raises(TeacherError, match="takes no batches"):
            asyncio.run(ask(server.base_url, tmp_path))
        server.failure = ""
        answers, _ = asyncio.run(ask(server.base_url, tmp_path))
    assert all(answers)
    assert len(server.batches) == 2
