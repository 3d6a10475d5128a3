"""Grounding: what is made up is told from what is said in other words."""

from __future__ import annotations

import pytest
from tests.unit.synthesis.conftest import make_example
from tests.unit.synthesis.grounding_cases import (
    ANSWERS,
    GERMAN_SUMMARIES,
    LEASE,
    MIETE,
    SUMMARIES,
    VISIT,
)

from loam_runtime.synthesis.embeddings import embed_texts
from loam_runtime.synthesis.filters.grounding import (
    GroundingFilter,
    find_ungrounded,
    find_unsupported,
)


def measure(told: list[tuple[bool, bool]]) -> tuple[float, float]:
    """Precision and recall of "made up", from (is grounded, was dropped)."""
    hits = sum(dropped and not grounded for grounded, dropped in told)
    return hits / sum(dropped for _, dropped in told), hits / sum(not good for good, _ in told)


def test_answers_precision_and_recall():
    """Its page states these: a rule that drops right answers starves a class of them."""
    told = [
        (good, bool(find_ungrounded(answer, f"{LEASE}\n{question}")))
        for question, answer, good in ANSWERS
    ]
    precision, recall = measure(told)
    assert (precision, recall) == (1.0, 1.0)


def test_summaries_precision_and_recall():
    """What no word and no number gives away, a wrong side or a fall that was denied, passes: the
    page says so, and the spot check is for it."""
    told = [
        (good, bool(find_unsupported(summary, VISIT, embed_texts))) for summary, good in SUMMARIES
    ]
    precision, recall = measure(told)
    assert precision == 1.0
    assert recall >= 0.75


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Pain since 2021.", "number 2021"),
        ("Referred by Keller.", "name Keller"),
        ("The family owns a vineyard abroad.", "nothing in the document supports: The family"),
    ],
)
def test_the_reason_names_what_is_foreign(text: str, words: str):
    """ "Not grounded" alone sends a reader through the whole document."""
    assert words in find_unsupported(text, VISIT, embed_texts)


def test_derived_answers_are_not_judged():
    """A sum is right and in no context: where seeds are such, the rule would drop all rows."""
    seeds = [
        make_example(f"Sold {n} in May and {n + 5} in June. How many in all?", str(2 * n + 5))
        for n in range(100, 120)
    ]
    filter_ = GroundingFilter(seeds, embed_texts, is_summary=False)
    assert not filter_.judge([make_example("Sold 1 and 2. How many?", "3")])[0].reason
    assert filter_.describe()["trusted"] is False
    assert "0 of 20 seeds" in str(filter_.describe()["note"])


def test_made_up_rows_are_dropped_and_right_ones_stay():
    seeds = [make_example(f"{LEASE}\n{question}", answer) for question, answer, ok in ANSWERS if ok]
    filter_ = GroundingFilter(seeds, embed_texts, is_summary=False)
    rows = [make_example(f"{LEASE}\nWhen?", "in 2019"), make_example(f"{LEASE}\nWhen?", "in 2020")]
    assert [bool(verdict.reason) for verdict in filter_.judge(rows)] == [False, True]


@pytest.mark.parametrize(("summary", "is_grounded"), GERMAN_SUMMARIES)
def test_german_nouns_are_no_names(summary: str, is_grounded: bool):
    """English seeds may ask for German rows, where each noun has a capital letter: taken for names,
    nearly all of them would go. A foreign number and a foreign word in capitals still do."""
    seeds = [make_example(VISIT, text) for text, good in SUMMARIES if good]
    filter_ = GroundingFilter(seeds, embed_texts, is_summary=True)
    assert filter_.is_trusted
    (verdict,) = filter_.judge([make_example(MIETE, summary)])
    assert (not verdict.reason) is is_grounded, verdict.reason


def test_a_short_german_answer_goes_by_its_context():
    """One word is too short to tell its language; that of its context is known."""
    question = f"{MIETE}\n\nWas muss der Mieter vorher?"
    assert find_ungrounded("vorher kündigen, drei Monate, Mieter: Frist", question) == ""
    assert "name Frist" in find_ungrounded("three months, tenant: Frist", f"{LEASE}\nHow long?")
