"""Label consistency by asking a teacher that gives no log-probabilities."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.synthesis.conftest import make_example

from loam_runtime.data.examples import Example
from loam_runtime.errors import InputError
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.filters.asked_consistency import (
    MEASURED_AT_ONCE,
    AskedConsistencyFilter,
)
from loam_runtime.synthesis.filters.base import Respondent, Verdict
from loam_runtime.synthesis.filters.trust import can_be_trusted, compute_trust
from loam_runtime.synthesis.strategies.base import TaskBrief

WORDS = {"billing": "invoice", "delivery": "parcel"}


def make_seeds(per_label: int) -> list[Example]:
    return [
        make_example(f"the {word} number {number}", label)
        for number in range(per_label)
        for label, word in WORDS.items()
    ]


def get_asked_text(request: TeacherRequest) -> str:
    return json.loads(re.findall(r"^Text: (.*)$", request.messages[0][1], re.MULTILINE)[-1])


def label_rightly(text: str) -> str:
    return next((label for label, word in WORDS.items() if word in text), "")


class Teacher:
    """Answers by a rule from the text asked about and how often it was asked about before."""

    def __init__(self, rule: Callable[[str, int], str | None]) -> None:
        self.rule = rule
        self.requests: list[TeacherRequest] = []

    async def ask(
        self, requests: Sequence[TeacherRequest], respondent: Respondent = "teacher"
    ) -> list[TeacherAnswer | None]:
        answers = []
        for request in requests:
            text = get_asked_text(request)
            before = sum(get_asked_text(one) == text for one in self.requests)
            said = self.rule(text, before)
            self.requests.append(request)
            answers.append(None if said is None else TeacherAnswer(said, 1, 1))
        return answers


def make_filter(per_label: int = 6, **options) -> AskedConsistencyFilter:
    brief = TaskBrief(
        tuple(make_seeds(per_label)), is_classification=True, description="Complaints.",
        label_names={"billing": "Money"},
    )  # fmt: skip
    return AskedConsistencyFilter(brief, **{"is_chat": True, "max_tokens": 64, **options})


def judge(
    filter_: AskedConsistencyFilter, teacher: Teacher, rows: Sequence[Example]
) -> list[Verdict]:
    async def work() -> list[Verdict]:
        await filter_.measure(teacher.ask)
        teacher.requests.clear()
        return await filter_.judge(rows, teacher.ask)

    return asyncio.run(work())


def answer(label: str) -> str:
    return json.dumps({"label": {"billing": "Money"}.get(label, label)})


def test_rows_of_another_label_go() -> None:
    """A row that says something else than its label is what a teacher writes most often wrong."""
    teacher = Teacher(lambda text, _: answer(label_rightly(text)))
    filter_ = make_filter()
    rows = [make_example("my invoice", "billing"), make_example("a parcel", "billing")]
    verdicts = judge(filter_, teacher, rows)
    assert verdicts == [Verdict(), Verdict("labelled delivery when asked", 0.0)]
    assert filter_.describe()["agreement"] == 0.5
    assert filter_.describe()["trusted"] is True


def test_third_order_is_asked_only_where_two_differ() -> None:
    """The majority of three is known after two that agree: asking on would be money for nothing,
    and stopping earlier would take one order's whim for a label."""

    def waver(text: str, before: int) -> str:
        return answer("billing" if "doubt" in text and before == 0 else label_rightly(text))

    teacher = Teacher(waver)
    clear, doubtful = make_example("a parcel", "delivery"), make_example("a doubtful parcel", "x")
    verdicts = judge(make_filter(), teacher, [clear, doubtful])
    assert [get_asked_text(one) for one in teacher.requests].count(clear.input) == 2
    assert [get_asked_text(one) for one in teacher.requests].count(doubtful.input) == 3
    assert verdicts[1].reason == "labelled delivery when asked"
    orders = {one.messages[0][1] for one in teacher.requests if get_asked_text(one) == clear.input}
    assert len(orders) == 2


def test_prompt_of_a_seed_does_not_show_it() -> None:
    """Shown with its label, a seed is found by copying: any teacher would seem trustworthy."""
    teacher = Teacher(lambda text, _: answer(label_rightly(text)))
    asyncio.run(make_filter(3).measure(teacher.ask))
    assert len(teacher.requests) == 12
    for request in teacher.requests:
        asked = json.dumps(get_asked_text(request))
        assert request.messages[0][1].count(asked) == 1
        assert request.messages[0][1].count("Text: ") > 1


@pytest.mark.parametrize("said", ["delivery", "", '{"label": "sports"}'])
def test_untrusted_drops_nothing(said: str) -> None:
    """A teacher that always names one class, or none, is not believed, and not asked again."""
    teacher = Teacher(lambda text, _: said)
    rows = [make_example("a parcel", "billing")]
    filter_ = make_filter()
    assert judge(filter_, teacher, rows) == [Verdict()]
    assert not teacher.requests
    assert filter_.describe()["trusted"] is False


def test_untrusted_may_fail() -> None:
    """With `fail` the job ends before a row is written, saying the figures."""
    teacher = Teacher(lambda text, _: answer("delivery"))
    with pytest.raises(InputError, match="of 10 seeds"):
        judge(make_filter(on_untrusted="fail"), teacher, [])


def test_a_hopeless_teacher_is_not_asked_on() -> None:
    """Once the seeds that are left cannot make it trusted, they are money for nothing; nor can a
    third order make a majority of two that named no label."""
    teacher = Teacher(lambda text, _: "I would rather not.")
    filter_ = make_filter(20)
    asyncio.run(filter_.measure(teacher.ask))
    assert len(teacher.requests) == 2 * 2 * MEASURED_AT_ONCE
    assert (filter_.describe()["trusted"], filter_.describe()["seeds_measured"]) == (False, 20)


def test_too_few_seeds_cost_nothing() -> None:
    """Four seeds prove nothing even if all are right (1 in 16): nobody is asked about them."""
    teacher = Teacher(lambda text, _: answer(label_rightly(text)))
    filter_ = make_filter(2)
    asyncio.run(filter_.measure(teacher.ask))
    assert not teacher.requests
    assert filter_.describe()["trusted"] is False


@pytest.mark.parametrize("said", [None, ""])
def test_what_is_not_answered_is_no_verdict(said: str | None) -> None:
    """A spent budget must not throw away rows that are paid for; an answer without a label is one
    that does not agree."""
    spoken = {"on": True}
    teacher = Teacher(lambda text, _: answer(label_rightly(text)) if spoken["on"] else said)
    filter_ = make_filter()
    asyncio.run(filter_.measure(teacher.ask))
    spoken["on"] = False
    (verdict,) = asyncio.run(filter_.judge([make_example("a parcel", "delivery")], teacher.ask))
    assert bool(verdict.reason) == (said is not None)
    assert filter_.describe()["unjudged"] == (said is None)


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ('{"label": "Money"}', "billing"),
        ("<think>It is delivery? No.</think>\n```json\n{\"label\": \"money\"}\n```", "billing"),
        ("Money.", "billing"),
        ('"delivery"', "delivery"),
        ("<think>Money?</think> delivery", "delivery"),
        ("It is delivery, surely.", ""),
        ("billing", ""),
        ('{"class": "Money"}', ""),
    ],
)  # fmt: skip
def test_answers_are_read_strictly(said: str, label: str) -> None:
    """An endpoint without schemas answers in its own ways; a label read where none was given
    would be a vote by chance."""
    teacher = Teacher(lambda text, _: said if "new" in text else answer(label_rightly(text)))
    rows = [make_example(f"new {name}", name) for name in WORDS]
    verdicts = judge(make_filter(), teacher, rows)
    assert [not verdict.reason for verdict in verdicts] == [name == label for name in WORDS]


@pytest.mark.parametrize("is_chat", [True, False])
def test_requests_are_constrained(is_chat: bool) -> None:
    """A chat teacher is held to the labels as it knows them; a base model continues a list and
    stops at its line's end."""
    said = answer if is_chat else {"billing": " Money", "delivery": " delivery"}.__getitem__
    teacher = Teacher(lambda text, _: said(label_rightly(text)))
    rows = [make_example("a parcel\nin two lines", "delivery")]
    (verdict,) = judge(make_filter(is_chat=is_chat), teacher, rows)
    assert not verdict.reason
    request = teacher.requests[0]
    assert request.temperature == 0.0
    assert request.choices == (("Money", "delivery") if is_chat else ())
    assert request.stop == (() if is_chat else ("\n",))
    assert request.messages[0][1].endswith("Class:") != is_chat
    assert "billing" not in request.messages[0][1]


def test_trust_needs_more_than_the_majority_class() -> None:
    """90 % right is nothing where 90 % of the seeds have one label."""
    labels = ["a"] * 36 + ["b"] * 4
    assert not compute_trust(labels, ["a"] * 40).is_trusted
    assert compute_trust(labels, labels).is_trusted
    assert not compute_trust(labels, [""] * 40).is_trusted


@given(
    st.lists(st.sampled_from("aaaaaaaaab"), min_size=1, max_size=40),
    st.lists(st.sampled_from([True] * 9 + [False]), min_size=40, max_size=40),
)
@example(["b"] * 4 + ["a"] * 36, [False] + [True] * 39)
def test_measuring_that_ended_early_never_ends_in_trust(
    labels: list[str], hits: list[bool]
) -> None:
    """The first seeds alone may have a smaller majority class, by which a filter that all seeds
    would have refused looked better than chance."""
    found = [label if hit else "" for label, hit in zip(labels, hits, strict=False)]
    for count in range(len(labels)):
        if not can_be_trusted(labels, found[:count]):
            assert not compute_trust(labels, found[:count]).is_trusted
