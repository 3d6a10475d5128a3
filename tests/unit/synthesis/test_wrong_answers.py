"""Fluent wrong answers for the quality classifier: what is asked, what counts, what it teaches."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.tools.fault_teacher import Call, Reply, serve_script
from tests.unit.synthesis.conftest import make_example

from loam_api.planning.teacher import limit_wrong_answers
from loam_runtime.data.examples import Example
from loam_runtime.errors import BudgetError, TeacherError
from loam_runtime.synthesis.budget import BudgetLedger, PriceList
from loam_runtime.synthesis.client import ASIDE_SHARE, TeacherClient
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.filters import quality
from loam_runtime.synthesis.filters.quality import QualityFilter
from loam_runtime.synthesis.filters.quality_rows import KnownRows, build_training_rows
from loam_runtime.synthesis.filters.registry import build_wrong_answers
from loam_runtime.synthesis.filters.wrong_answers import FAULT, WrongAnswers
from loam_runtime.synthesis.journal import Journal
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.pacing import RetryPolicy
from loam_runtime.synthesis.strategies.base import SamplingSettings, TaskBrief

SAMPLING = SamplingSettings(max_tokens=64)
CITIES = ("Rome", "Lima", "Oslo", "Cairo", "Seoul", "Quito", "Delhi", "Hanoi", "Bern", "Riga")


def make_brief(count: int = 10, **rest) -> TaskBrief:
    seeds = [
        make_example(f"Where is office number {i}?", f"In {CITIES[i % 10]}, {i} Main Street.")
        for i in range(count)
    ]
    return TaskBrief(tuple(seeds), is_classification=False, description="Addresses", **rest)


def answer_all(text: str):
    """An `Ask` that gives every question one answer."""

    async def ask(requests: Sequence[TeacherRequest]) -> list[TeacherAnswer | None]:
        return [TeacherAnswer(text, 1, 1) for _ in requests]

    return ask


def take(brief: TaskBrief, ask, most: int = 20) -> WrongAnswers:
    made = WrongAnswers(brief, SAMPLING, most)
    asyncio.run(made.ask(ask))
    return made


# --- what is asked -----------------------------------------------------------------------------
def test_seeds_asked_about_are_few_and_the_same():
    """A question for each seed would cost more than the rows, and other ones after a restart would
    be paid for twice."""
    brief = make_brief(50)
    first, second = (WrongAnswers(brief, SAMPLING, 7) for _ in range(2))
    assert len(first.rows) == 7
    assert [first.compose(row) for row in first.rows] == [
        second.compose(row) for row in second.rows
    ]
    question = first.compose(first.rows[0]).messages[-1][1]
    assert "Addresses" in question
    assert f"<answer>{first.rows[0].target}</answer>" in question


@pytest.mark.parametrize(
    ("num_rows", "num_seeds", "most"), [(1000, 100, 20), (40, 100, 8), (1000, 12, 12), (9, 7, 0)]
)
def test_questions_are_few_beside_the_rows(num_rows: int, num_seeds: int, most: int):
    """A job of ten rows shall not pay for twenty answers that it does not train on."""
    assert limit_wrong_answers(num_rows, num_seeds) == most


class ChatTeacher:
    is_chat = True


class BaseTeacher:
    is_chat = False


@pytest.mark.parametrize(
    ("brief", "teacher", "asks"),
    [
        (make_brief(), ChatTeacher, True),
        (make_brief(), BaseTeacher, False),
        (TaskBrief(make_brief().seeds, is_classification=True), ChatTeacher, False),
        (
            TaskBrief(tuple(make_example("a", f"b{i}", rejected="c") for i in range(9)), False),
            ChatTeacher,
            False,
        ),
        (
            TaskBrief(tuple(make_example("", f"text {i}") for i in range(9)), False),
            ChatTeacher,
            False,
        ),
    ],
)
def test_asked_only_where_an_answer_can_be_wrong(brief: TaskBrief, teacher, asks: bool):
    """Of a label another one is wrong, of a pair one answer is refused, of a plain text nothing is
    asked, and a base model cannot be told: each question there would be money for nothing."""
    made = build_wrong_answers(brief, teacher=teacher(), sampling=SAMPLING, num_rows=100)
    assert (made is not None) == asks


# --- what counts -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "<answer>in ROME,  0 main street</answer>",  # but for case, spaces and the last full stop
        "<answer>In Lima, 1 Main Street.</answer>",  # right for another seed of the same input
        "<answer></answer>",
        "In Oslo.",
    ],
)
def test_a_right_answer_is_no_negative(text: str):
    """A right answer learnt as a bad one teaches the classifier the opposite."""
    seed, other = make_brief(2).seeds
    twin = make_example(seed.input.upper(), other.target)
    made = take(TaskBrief((seed, twin), is_classification=False), answer_all(text))
    assert seed.id not in made.texts
    assert twin.id not in made.texts
    assert made.describe()["used"] == 0
    assert "Of 2 plausible wrong answers" in made.describe()["note"]


def test_a_failing_teacher_leaves_none():
    """The classifier is fitted without them and says so; the rows' own requests tell the rest."""

    async def refuse(requests):
        raise TeacherError("The teacher is down.")

    made = take(make_brief(), refuse)
    assert made.texts == {}
    assert "The teacher is down. (10)" in made.describe()["note"]


# --- what the budget allows --------------------------------------------------------------------
def make_requests(count: int, word: str = "question") -> list[TeacherRequest]:
    return [TeacherRequest((("user", f"{word} {i}"),), max_tokens=8) for i in range(count)]


def ask_aside(folder: Path, url: str, requests: list, then: list, max_requests: int):
    """One start: questions aside, then those that the run is for; the answers of both."""

    async def work():
        teacher = OpenAICompatibleTeacher("m", url, "k", concurrency=1)
        try:
            async with Journal(folder, "run") as journal:
                budget = BudgetLedger(max_requests, spent=journal.spent)
                policy = RetryPolicy(max_delay_seconds=0.01)
                client = TeacherClient(teacher, journal, budget, policy=policy)
                return await client.ask_aside(requests), await client.ask_many(then)
        finally:
            await teacher.close()

    return asyncio.run(work())


def test_questions_aside_take_a_small_part_of_the_budget(tmp_path: Path):
    """Rows are what the budget is for."""
    with serve_script(lambda call: Reply("x")) as server:
        aside, _ = ask_aside(tmp_path, server.base_url, make_requests(20), [], 100)
        asked = server.num_requests
    assert asked == round(100 * ASIDE_SHARE)
    assert [answer is not None for answer in aside] == [True] * asked + [False] * (20 - asked)


@pytest.mark.parametrize("limit", ["max_tokens", "max_cost"])
def test_every_limit_counts(limit: str):
    """A budget of money alone is a budget."""
    requests = [TeacherRequest((("user", "x" * 76),), max_tokens=100 - 16 - 76)] * 20
    limits = {"max_tokens": 10_000, "max_cost": 0.01}
    worst = [PriceList(1.0, 1.0).reserve(request) for request in requests]
    assert BudgetLedger(**{limit: limits[limit]}).count_within(worst, 0.05) == 5
    assert BudgetLedger().count_within(worst, 0.05) == 20


def test_tries_that_spend_the_budget_stop_nothing_else(tmp_path: Path):
    """A start that finds its answers in the journal needs no budget: what it asks for the
    classifier beside them must not end it."""
    own = make_requests(19)

    def fail_aside(call: Call) -> Reply:
        return Reply(status=500) if "aside" in call.question else Reply("x")

    with serve_script(fail_aside) as server:
        ask_aside(tmp_path, server.base_url, [], own, 20)
        aside, found = ask_aside(tmp_path, server.base_url, make_requests(1, "aside"), own, 20)
        asked = server.num_requests - 19
        # What is not there is told as a spent budget, not as a teacher without an answer.
        with pytest.raises(BudgetError):
            ask_aside(tmp_path, server.base_url, make_requests(1, "aside"), make_requests(20), 20)
    assert (aside, asked) == ([None], 1)
    assert [answer.text for answer in found] == ["x"] * 19


# --- what it teaches ---------------------------------------------------------------------------
def make_facts(count: int) -> list[Example]:
    rng = random.Random(0)
    return [
        make_example(
            f"The {rng.choice(CITIES)} office number {i} opens at {rng.randrange(6, 11)} o'clock.",
            f"It opens in the morning, office number {i}.",
        )
        for i in range(count)
    ]


def test_learns_what_no_rule_makes():
    """Fluent, of the right length and on the subject: rows with such a fault leave once it has been
    shown, and it is told apart on seeds that were not seen with it."""
    seeds = make_facts(60)
    brief = TaskBrief(tuple(seeds), is_classification=False)

    async def deny(requests):
        numbers = [re.findall(r"number (\d+)", one.messages[-1][1])[0] for one in requests]
        return [
            TeacherAnswer(f"<answer>It closes in the evening, office number {i}.</answer>", 1, 1)
            for i in numbers
        ]

    taught = QualityFilter(
        seeds, 0.5, is_classification=False, wrong_answers=WrongAnswers(brief, SAMPLING, 20)
    )
    asyncio.run(taught.learn(deny))
    plain = QualityFilter(seeds, 0.5, is_classification=False)
    text = "The Oslo office number 77 opens at 8 o'clock."
    good = make_example(text, "It opens in the morning, office number 77.")
    wrong = make_example(text, "It closes in the evening, office number 77.")
    assert not plain.judge([wrong])[0].reason
    assert [bool(one.reason) for one in taught.judge([good, wrong])] == [False, True]
    assert FAULT not in plain.fit.auc_by_fault
    assert taught.fit.auc_by_fault[FAULT] > 0.9
    assert taught.describe()["wrong_answers"] == {"asked": 20, "used": 20}
    assert "note" not in taught.describe()


def test_a_wrong_answer_is_held_out_with_its_seed():
    """Learnt from one fold and measured on another, a seed would be known by heart."""
    seeds = make_facts(10)
    folds = np.arange(10) % quality.NUM_FOLDS
    known = KnownRows({seeds[3].id: "It never opens."})
    rows = build_training_rows(seeds, folds, random.Random(0), is_classification=False, known=known)
    place = rows.pairs.index((seeds[3].input, "It never opens."))
    assert (rows.groups[place], rows.is_good[place], rows.faults[place]) == (3, 0, FAULT)


def test_seeds_with_wrong_answers_are_learnt_from(monkeypatch: pytest.MonkeyPatch):
    """Of many seeds a sample is learnt from: what was paid for is in it."""
    monkeypatch.setattr(quality, "MAX_SEEDS", 12)
    seeds = make_facts(60)
    brief = TaskBrief(tuple(seeds), is_classification=False)
    questions = WrongAnswers(brief, SAMPLING, 8)
    filter_ = QualityFilter(seeds, 0.5, is_classification=False, wrong_answers=questions)
    asyncio.run(filter_.learn(answer_all("<answer>It never opens.</answer>")))
    chosen = filter_._choose_seeds(random.Random(0))
    assert len(chosen) == 12
    assert {row.id for row in questions.rows} <= {seed.id for seed in chosen}
