"""Which training rows the in-context baseline shows."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from loam_runtime.data.examples import Example, iterate_examples

if TYPE_CHECKING:
    from datasets import Dataset

# A row far longer than its like would take the whole context; those up to this multiple of the
# median length come first.
_LONGEST_OVER_MEDIAN = 3


def select_shots(
    train: Dataset, num_per_class: int, seed: int, labels: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """(input, target) pairs drawn from the training rows, the same for the same seed.

    Args:
        train: training rows; only those given by the user are shown, where there are any.
        num_per_class: pairs of each label, or in all where there are no labels.
        labels: the job's labels; empty for tasks without.

    Returns:
        Pairs in random order, so that the label of the last one says nothing.
    """
    rng = random.Random(seed)
    rows = list(iterate_examples(train))
    rows = [row for row in rows if row.origin == "seed"] or rows
    by_class: dict[str, list[Example]] = defaultdict(list)
    for row in rows:
        by_class[row.target if labels else ""].append(row)
    shots = [
        (row.input, row.target)
        for label in sorted(by_class)
        for row in _draw(by_class[label], num_per_class, rng)
    ]
    rng.shuffle(shots)
    return shots


def _draw(rows: list[Example], count: int, rng: random.Random) -> Iterator[Example]:
    """`count` rows at random, unusually long ones only where the others do not suffice."""
    lengths = sorted(len(row.input) for row in rows)
    limit = _LONGEST_OVER_MEDIAN * max(1, lengths[len(lengths) // 2])
    shuffled = rng.sample(rows, len(rows))
    yield from sorted(shuffled, key=lambda row: len(row.input) > limit)[:count]
