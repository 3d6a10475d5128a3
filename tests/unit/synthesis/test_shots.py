"""Which real examples a request shows."""

from __future__ import annotations

from collections import Counter

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.strategies.base import TaskBrief
from loam_runtime.synthesis.strategies.shots import ShotRotation

ALIKE = [Example(f"a{i}", f"the parcel number {i} is late again today", "x") for i in range(9)]
UNLIKE = [
    Example("u1", "refund my broken kettle", "x"),
    Example("u2", "who won in Lisbon", "x"),
    Example("u3", "zebra crossings confuse me", "x"),
]
OTHER = Example("o", "quite another class", "y")


def make_rotation() -> ShotRotation:
    return ShotRotation(TaskBrief((*ALIKE, *UNLIKE, OTHER), is_classification=True))


def test_each_seed_leads_in_turn() -> None:
    """With random choice some seeds are shown ten times and some never."""
    rotation = make_rotation()
    shown = Counter(seed.id for turn in range(12) for seed in rotation.choose("x", turn, 1))
    assert shown == Counter({seed.id: 1 for seed in (*ALIKE, *UNLIKE)})


def test_shown_seeds_differ() -> None:
    """Of nine seeds that are all alike, one or two are shown beside the others: near copies in
    the prompt make near copies in the answer."""
    rotation = make_rotation()
    pool = {seed.id for seed in ALIKE}
    counts = [sum(seed.id in pool for seed in rotation.choose("x", turn, 3)) for turn in range(24)]
    # At random 9 of 12 are alike: 2.25 of three.
    assert sum(counts) / len(counts) < 2
    assert len({frozenset(s.id for s in rotation.choose("x", turn, 3)) for turn in range(24)}) > 8


def test_one_label_alone() -> None:
    """A shot of another class would teach the wrong label; a class of one seed shows that one."""
    rotation = make_rotation()
    assert all(seed.target == "x" for turn in range(12) for seed in rotation.choose("x", turn, 4))
    assert rotation.choose("y", 3, 4) == [OTHER]
