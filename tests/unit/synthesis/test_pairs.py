"""Verdicts on preference pairs."""

from __future__ import annotations

import pytest

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.exchange import TeacherAnswer
from loam_runtime.synthesis.filters.preference import TIE, UNANSWERED, WRONG, PreferenceFilter
from loam_runtime.synthesis.strategies.base import TaskBrief

PAIR = Example("1", "Why is it late?", "Customs hold it.", rejected="Because.")
JUDGE = PreferenceFilter(TaskBrief((PAIR,), is_classification=False, description="Be kind"), 64)


def say(*texts: str | None) -> list[TeacherAnswer | None]:
    return [None if text is None else TeacherAnswer(text, 1, 1) for text in texts]


def test_both_orders_are_asked() -> None:
    """A judge that favours the first place would otherwise pass every pair, or none."""
    first, second = (request.messages[0][1] for request in JUDGE.compose(PAIR))
    assert first.index(PAIR.target) < first.index(PAIR.rejected)
    assert second.index(PAIR.rejected) < second.index(PAIR.target)
    assert "Be kind" in first
    assert [request.temperature for request in JUDGE.compose(PAIR)] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("verdicts", "reason"),
    [
        (("A", "B"), ""),
        (("<think>B?</think> A.", "**B**"), ""),
        (("A", "A"), TIE),
        (("B", "B"), TIE),
        (("T", "B"), TIE),
        (("", "B"), TIE),
        (("B", "A"), WRONG),
        (("A", None), UNANSWERED),
    ],
)
def test_only_agreement_keeps_a_pair(verdicts: tuple[str | None, ...], reason: str) -> None:
    """A tie taken for a preference teaches the judge's taste for a place; a pair the wrong way
    round teaches the worse answer."""
    assert JUDGE.read(say(*verdicts)) == reason
