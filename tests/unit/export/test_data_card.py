"""The card that goes with published synthetic rows."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from loam_runtime.export.data_card import DataCardFacts, render_data_card

FACTS = DataCardFacts(
    name="tickets",
    task="classification",
    description="Sort complaints.",
    teacher="teacher-9b",
    strategy="seeded",
    num_seeds=40,
    num_wanted=100,
    num_kept=90,
    labels={"billing": 45, "delivery": 45},
    funnel=[{"name": "length", "seen": 120, "passed": 110}],
    measures=[{"name": "Dispersion", "synthetic": "0.71", "seeds": "0.80"}],
    held_out=50,
    num_flagged=2,
    stopped="the budget is spent",
    rationale_note="Rationales were written for 38 of the 40 training rows.",
)


def test_tells_all() -> None:
    """Who wrote the rows, how many were dropped by what, and what they were compared with: a user
    of the rows alone has no report."""
    card = render_data_card(FACTS)
    for part in (
        "90 rows, written by teacher-9b",
        "| length | 120 | 110 |",
        "| Dispersion | 0.71 | 0.80 |",
        "| billing | 45 |",
        "50 inputs of the test and validation rows",
        "2 rows mean much the same",
        "It ended early: the budget is spent",
        "written for 38 of the 40 training rows. They are the work of teacher-9b",
    ):
        assert part in card
    assert "Rationales" not in render_data_card(replace(FACTS, rationale_note=""))


@pytest.mark.parametrize(
    "text", ["<script>x</script>", "a | b", "[x](javascript:y)", "# big\n\n* x"]
)
def test_hostile_text_is_shown_as_it_is(text: str) -> None:
    """A label or a model's name makes no markup, no table cell and no heading."""
    hostile = replace(FACTS, name=text, teacher=text, description=text, labels={text: 1})
    card = re.sub(r"\\.", "", render_data_card(hostile))  # without what is escaped
    plain = render_data_card(replace(FACTS, labels={"x": 1}))
    for mark in ("<", "\n#", "\n*", "](", "|"):
        assert card.count(mark) == plain.count(mark)
