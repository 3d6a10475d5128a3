"""Which rows are kept of those that passed."""

from __future__ import annotations

import random

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.collect import share_quotas
from loam_runtime.synthesis.selection import select_rows
from loam_runtime.synthesis.strategies.base import TaskBrief


def row(text: str, label: str = "a") -> Example:
    return Example(f"{text}/{label}", text, label)


POOL = [
    row("the parcel is late"),
    row("the parcel is late again"),
    row("the parcel is late today"),
    row("my invoice is wrong"),
]


def test_diversity_prefers_what_is_new() -> None:
    """With all quality equal, the odd one out comes before a third variation of the same."""
    chosen = select_rows(POOL, {}, {"a": 2}, seeds=[], diversity_weight=1.0)
    assert POOL[3] in chosen


def test_quality_alone() -> None:
    """Without weight on diversity the best scores win, and equal ones keep their order."""
    scores = {POOL[1].id: 0.9, POOL[2].id: 0.8}
    chosen = select_rows(POOL, scores, {"a": 3}, seeds=[], diversity_weight=0.0)
    assert chosen == [POOL[1], POOL[2], POOL[0]]


def test_seeds_count_as_chosen() -> None:
    """A variation of a seed is worth less than something new."""
    chosen = select_rows(POOL, {}, {"a": 1}, seeds=[row("my invoice is wrong!")],
                         diversity_weight=1.0)  # fmt: skip
    assert chosen != [POOL[3]]


def test_pools_by_label() -> None:
    """Each label fills its own quota: one with better scores does not crowd out another."""
    pool = [row(f"text {i}", label) for i in range(5) for label in ("a", "b")]
    scores = {item.id: float(item.target == "a") for item in pool}
    chosen = select_rows(pool, scores, {"a": 2, "b": 3}, seeds=[], diversity_weight=0.3)
    assert sorted(item.target for item in chosen) == ["a", "a", "b", "b", "b"]
    assert [item.target for item in chosen[:4]] == ["a", "b", "a", "b"]


def test_lazy_equals_eager() -> None:
    """Looking again only at the first candidate gives the order that looking at all gives."""
    rng = random.Random(3)
    words = ["late", "parcel", "invoice", "wrong", "courier", "door", "refund", "order"]
    pool = [row(" ".join(rng.choices(words, k=5)) + f" {i}") for i in range(40)]
    scores = {item.id: rng.random() for item in pool}
    lazy = select_rows(pool, scores, {"a": 15}, seeds=[], diversity_weight=0.5)
    assert lazy == _select_eagerly(pool, scores, 15, 0.5)


def _select_eagerly(pool, scores, count, weight):
    from loam_runtime.synthesis.selection import _embed

    vectors = _embed(pool)
    similarity = (vectors @ vectors.T).toarray()
    chosen: list[int] = []
    while len(chosen) < count:
        gains = {
            place: (1 - weight) * scores[pool[place].id]
            + weight * (1 - max((similarity[place, other] for other in chosen), default=0.0))
            for place in range(len(pool))
            if place not in chosen
        }
        chosen.append(max(gains, key=gains.__getitem__))
    return [pool[place] for place in chosen]


def test_quotas_follow_the_seeds() -> None:
    """Quotas add up to the target and keep the seeds' shares."""
    seeds = tuple(row(f"{label}{i}", label) for label, n in (("a", 6), ("b", 3)) for i in range(n))
    brief = TaskBrief(seeds, is_classification=True)
    assert share_quotas(100, brief) == {"a": 67, "b": 33}
    assert sum(share_quotas(1, brief).values()) == 1
    assert share_quotas(7, TaskBrief(seeds, is_classification=False)) == {"": 7}


def test_rare_labels_get_their_share() -> None:
    """Two seeds in a hundred would earn two rows in a hundred: too few to learn the label from."""
    seeds = tuple(row(f"{label}{i}", label) for label, n in (("a", 98), ("b", 2)) for i in range(n))
    quotas = share_quotas(100, TaskBrief(seeds, is_classification=True))
    assert quotas == {"a": 80, "b": 20}
