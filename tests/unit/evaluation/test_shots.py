"""Few-shot examples come from the training rows, evenly, and the same for the same seed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tools.cases import count_cases

from loam_runtime.data.examples import Example, to_dataset
from loam_runtime.evaluation.shots import select_shots


def make_rows(counts: dict[str, int], origin: str = "seed") -> list[Example]:
    return [
        Example(id=f"{label}{i}", input=f"{label} text {i}", target=label, origin=origin)
        for label, count in counts.items()
        for i in range(count)
    ]


@given(
    counts=st.dictionaries(st.sampled_from("abc"), st.integers(1, 8), min_size=1),
    num_per_class=st.integers(1, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=count_cases(25), deadline=None)
def test_every_class_is_shown_evenly(counts, num_per_class, seed) -> None:
    """A prompt with more of one label pulls every answer there."""
    train = to_dataset(make_rows(counts))
    shots = select_shots(train, num_per_class, seed, sorted(counts))
    shown = Counter(target for _, target in shots)
    assert shown == {label: min(num_per_class, count) for label, count in counts.items()}
    assert len(set(shots)) == len(shots)
    assert {text for text, _ in shots} <= set(train["input"])
    assert select_shots(train, num_per_class, seed, sorted(counts)) == shots


def test_synthetic_rows_are_not_shown() -> None:
    """The baseline is what a user could do without Loam: prompt with their own rows."""
    rows = make_rows({"a": 2}) + make_rows({"a": 50}, "synthetic")
    shots = select_shots(to_dataset(rows), 2, 0, ["a"])
    assert {text for text, _ in shots} == {"a text 0", "a text 1"}


def test_a_huge_row_is_shown_last_of_all() -> None:
    """One row of 100,000 words would fill the context of every prompt."""
    rows = [*make_rows({"a": 4}), Example(id="x", input="word " * 100_000, target="a")]
    for seed in range(20):
        shots = select_shots(to_dataset(rows), 4, seed, ["a"])
        assert all(len(text) < 100 for text, _ in shots)
    assert len(select_shots(to_dataset(rows), 5, 0, ["a"])) == 5


def test_tasks_without_labels_get_as_many_in_all() -> None:
    """Without classes there is one pool."""
    rows = make_rows({"answer 1": 5, "answer 2": 5})
    assert len(select_shots(to_dataset(rows), 3, 0)) == 3
