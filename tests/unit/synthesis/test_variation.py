"""The plan of variation: what rows are asked to be."""

from __future__ import annotations

from collections import Counter
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from loam_runtime.synthesis.variation import Attribute, Coverage, VariationPlan

ATTRIBUTES = (
    Attribute("length", ("short", "usual", "long")),
    Attribute("style", ("formal", "casual")),
    Attribute("topic", ("a", "b", "c", "d", "e")),
)


@given(count=st.integers(1, 200), seed=st.integers(0, 1000), label=st.text(max_size=5))
def test_every_beginning_is_even(count: int, seed: int, label: str) -> None:
    """However early a run ends, no value was asked for more than once oftener than another:
    random draws would leave some out."""
    plan = VariationPlan(ATTRIBUTES, seed)
    rows = [plan.assign(label, number) for number in range(count)]
    for attribute in ATTRIBUTES:
        counts = Counter(row[attribute.name] for row in rows)
        numbers = [counts[value] for value in attribute.values]
        assert max(numbers) - min(numbers) <= 1


def test_attributes_are_not_tied() -> None:
    """Were every attribute cycled through in one order, short rows would always be formal."""
    first, second = Attribute("first", tuple("abcd")), Attribute("second", tuple("xy"))
    plan = VariationPlan([first, second], 0)
    pairs = Counter(tuple(plan.assign("x", number).values()) for number in range(800))
    assert set(pairs) == set(product("abcd", "xy"))
    assert min(pairs.values()) > 60  # of 100


@given(
    shares=st.lists(st.floats(0.05, 1), min_size=2, max_size=5),
    count=st.integers(1, 400),
    seed=st.integers(0, 100),
)
def test_shares_hold_at_any_time(shares: list[float], count: int, seed: int) -> None:
    """Values with shares of their own stay within a few rows of them in every beginning."""
    names = tuple(f"v{place}" for place in range(len(shares)))
    attribute = Attribute("language", names, tuple(shares))
    counts = Counter(attribute.choose(number, str(seed)) for number in range(count))
    for name, share in zip(names, shares, strict=True):
        assert abs(counts[name] - count * share / sum(shares)) < 4


def test_same_row_same_attributes() -> None:
    """A restart must ask what was asked before, or its paid answers are not found again."""
    first, second = VariationPlan(ATTRIBUTES, 3), VariationPlan(ATTRIBUTES, 3)
    assert [first.assign("x", n) for n in range(50)] == [second.assign("x", n) for n in range(50)]
    assert first.assign("x", 7) == second.assign("x", 7)


def test_coverage_is_told() -> None:
    """What was planned and what came of it stand side by side, value by value."""
    plan, coverage = VariationPlan(ATTRIBUTES[1:2], 0), Coverage()
    rows = [plan.assign("", number) for number in range(4)]
    coverage.add_asked(rows)
    coverage.add_written(rows[0])
    told = plan.describe(coverage, [(rows[0], 12)])
    value = rows[0]["style"]
    assert told["style"][value] == {"asked": 2, "written": 1, "kept": 1, "median_words": 12}
