"""The provider's batch mode, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.tools.batch_server import BatchServer, serve_batches
from tests.tools.fault_teacher import Reply, serve_script

from loam_runtime.errors import TeacherError
from loam_runtime.synthesis.budget import Amount, BudgetLedger
from loam_runtime.synthesis.client import TeacherClient
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.journal import Journal
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.provider_batches import BatchTeacher

REQUESTS = [TeacherRequest((("user", f"question {i}"),), max_tokens=50) for i in range(5)]
POLLS = (0.01, 0.02)


async def ask(
    base_url: str, folder: Path, limit_seconds: float = 60.0
) -> tuple[list[TeacherAnswer | None], Amount]:
    """One start of a run; it is ended after `limit_seconds` as a kill would end it."""
    teacher = BatchTeacher(OpenAICompatibleTeacher("m", base_url, "k"), poll_seconds=POLLS)
    try:
        async with Journal(folder, "run") as journal:
            teacher.book = journal
            ledger = BudgetLedger(spent=journal.spent)
            client = TeacherClient(teacher, journal, ledger)
            async with asyncio.timeout(limit_seconds):
                return await client.ask_many(REQUESTS), ledger.spent
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


def _end_while_held(server: BatchServer, folder: Path) -> None:
    server.is_held = True
    with pytest.raises(TimeoutError):
        asyncio.run(ask(server.base_url, folder, limit_seconds=3.0))


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
