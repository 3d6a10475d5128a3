"""The synthetic rows' funnel and measures, from the stage's result to words."""

from __future__ import annotations

import numpy as np

from loam_runtime.data.examples import Example
from loam_runtime.steps.funnel import describe_funnel, describe_measures, describe_rationales
from loam_runtime.synthesis.measures import measure_rows
from loam_runtime.synthesis.row_tasks import UNANSWERED, RowAnswers

REPORT = {
    "rows": 9,
    "malformed": 1,
    "filters": {"length": {"seen": 9, "passed": 7}, "quality": {"seen": 7, "passed": 7}},
}


def reject(filter_: str, number: int) -> dict:
    return {"input": f"row {number}", "target": "a", "reason": "why", "filter": filter_}


def test_funnel_begins_with_what_was_written() -> None:
    """Malformed answers are the first step, each step starts where the last one ended, and the
    rows shown under a filter are its own, a few of them."""
    rejected = [reject("malformed", 0), *(reject("length", number) for number in range(5))]
    funnel = describe_funnel(REPORT, rejected)
    assert [(row["name"], row["seen"], row["passed"]) for row in funnel] == [
        ("malformed", 10, 9),
        ("length", 9, 7),
        ("quality", 7, 7),
    ]
    assert [len(row["rejected_samples"]) for row in funnel] == [1, 3, 0]


def test_measures_of_hardly_any_rows() -> None:
    """What could not be measured is said so: a zero would read as a finding."""
    measures = measure_rows(
        [],
        [Example("1", "a seed", "a")],
        is_classification=True,
        embed=lambda texts: np.ones((len(texts), 1)),
    )
    shown = {row["name"]: row["synthetic"] for row in describe_measures(measures)}
    assert shown["Dispersion"] == "not measured"
    assert "Novelty, median" not in shown


def test_rationales_of_real_rows_say_where_they_are_from() -> None:
    """Text of a teacher beside a user's own rows, and trained on: how much of it there is, what it
    cost, and why rows have none; nothing where nobody was asked."""
    assert describe_rationales({}) == ""
    made = RowAnswers(5, {"1": "so", "2": "so"}, num_repairs=1, num_tokens=1200)
    made.faults.update({"it was cut off; be shorter": 1, UNANSWERED: 2})
    made.stopped = "The budget is spent."
    note = describe_rationales({"explained": made.describe()})
    for part in (
        "2 of the 5 training rows",
        "(1 of them asked about twice)",
        "1,200 tokens",
        "no answer (2); it was cut off; be shorter (1).",
        "The budget is spent.",
    ):
        assert part in note
