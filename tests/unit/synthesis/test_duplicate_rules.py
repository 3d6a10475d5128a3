"""Precision and recall of the duplicate and contamination rules on pairs written for it."""

from __future__ import annotations

import pytest
from tests.tools.duplicate_rules import RULES, measure_rule

# Least precision and recall of each rule; benchmarks/filters.py prints the figures.
LEAST = {
    "exactDuplicates": (1.0, 1.0),
    "nearDuplicates": (0.93, 0.93),
    "embeddingDuplicates": (0.95, 0.6),
    "contamination": (0.94, 0.94),
    "contamination, flags": (0.8, 0.65),
}


@pytest.mark.parametrize("name", RULES)
def test_rule_finds_its_own_and_little_else(name: str) -> None:
    """Each rule finds the pairs it is made for, and hardly any of the short questions that only
    look alike: a rule that dropped those would leave TREC with a few templates."""
    figures = measure_rule(name)
    precision, recall = LEAST[name]
    assert figures.precision >= precision, figures.wrong
    assert figures.recall >= recall, figures.found


def test_word_order_and_numbers_are_looked_at() -> None:
    """What an embedding does not see is compared: bookings at seven and at eight have a cosine of
    0.97, and flights there and back one of 0.99. Without the check both would be dropped."""
    wrong = measure_rule("embeddingDuplicates").wrong
    assert not [pair for pair in wrong if "Denver" in pair[0] or "Friday" in pair[0]]
    flagged = measure_rule("contamination, flags").wrong
    assert [pair for pair in flagged if "Denver" in pair[0] or "Friday" in pair[0]]
