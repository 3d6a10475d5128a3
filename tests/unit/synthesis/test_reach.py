"""When a label is given up."""

from __future__ import annotations

import pytest
from scipy.stats import binom

from loam_runtime.synthesis.reach import CONFIDENCE, bound_yield, find_shortages


@pytest.mark.parametrize(("kept", "slots"), [(0, 20), (1, 50), (7, 80), (40, 50)])
def test_bound_is_a_bound(kept: int, slots: int) -> None:
    """At the bound, so few rows or fewer come by chance once in forty times: a label is not given
    up for bad luck in the pilot."""
    assert binom.cdf(kept, slots, bound_yield(kept, slots)) == pytest.approx(1 - CONFIDENCE)


def test_all_passed() -> None:
    """A perfect yield is bounded by one, and so is one of more rows than were asked for."""
    assert bound_yield(5, 5) == bound_yield(9, 5) == 1.0


def find(kept: int, draws: int, left: float, quota: int = 100) -> list[str]:
    found = find_shortages({"a": quota}, {"a": kept}, {"a": draws}, {"a": left}, 5)
    return [item.label for item in found]


def test_shortage() -> None:
    """Given up is what even a lucky rest does not bring to a quarter, and nothing else."""
    assert find(kept=0, draws=16, left=20) == ["a"]
    assert find(kept=0, draws=16, left=1000) == []
    assert find(kept=25, draws=400, left=0) == []
    assert find(kept=24, draws=400, left=0) == ["a"]


def test_not_asked_yet() -> None:
    """A label of which no row was asked for is not judged."""
    assert find(kept=0, draws=0, left=0) == []
