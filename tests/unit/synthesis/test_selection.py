"""Which rows are kept of those that passed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import HashingVectorizer

from loam_runtime.data.examples import Example
from loam_runtime.synthesis import selection
from loam_runtime.synthesis.collect import share_quotas
from loam_runtime.synthesis.selection import order_pool, select_rows
from loam_runtime.synthesis.strategies.base import TaskBrief


def embed_by_letters(texts) -> np.ndarray:
    """What is alike here is spelt alike, so that the tests need no model."""
    vectorizer = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=2**10)
    return vectorizer.transform(texts).toarray().astype(np.float32)


choose = partial(select_rows, embed=embed_by_letters)


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
    chosen = choose(POOL, {}, {"a": 2}, seeds=[], diversity_weight=1.0)
    assert POOL[3] in chosen


def test_quality_alone() -> None:
    """Without weight on diversity the best scores win, and equal ones keep their order."""
    scores = {POOL[1].id: 0.9, POOL[2].id: 0.8}
    chosen = choose(POOL, scores, {"a": 3}, seeds=[], diversity_weight=0.0)
    assert chosen == [POOL[1], POOL[2], POOL[0]]


def test_seeds_count_as_chosen() -> None:
    """A variation of a seed is worth less than something new."""
    chosen = choose(POOL, {}, {"a": 1}, seeds=[row("my invoice is wrong!")],
                         diversity_weight=1.0)  # fmt: skip
    assert chosen != [POOL[3]]


def test_pools_by_label() -> None:
    """Each label fills its own quota: one with better scores does not crowd out another."""
    pool = [row(f"text {i}", label) for i in range(5) for label in ("a", "b")]
    scores = {item.id: float(item.target == "a") for item in pool}
    chosen = choose(pool, scores, {"a": 2, "b": 3}, seeds=[], diversity_weight=0.3)
    assert sorted(item.target for item in chosen) == ["a", "a", "b", "b", "b"]
    assert [item.target for item in chosen[:4]] == ["a", "b", "a", "b"]


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 1.0]), st.integers(1, 60))
def test_short_list_equals_looking_at_all(seed: int, weight: float, quota: int) -> None:
    """Looking at the rows of greatest gain alone chooses what looking at all in every step
    chooses: a wrong bound would pass over better rows, and nobody would notice."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(60, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    quality = rng.random(60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_SHORT_LIST", 7)
        order = order_pool(vectors, quality, quota, near=vectors[:3], weight=weight)
    assert order == _order_eagerly(vectors, quality, quota, vectors[:3], weight)


def _order_eagerly(vectors, quality, quota, near, weight) -> list[int]:
    chosen: list[int] = []
    while len(chosen) < quota:
        known = np.concatenate([near, vectors[chosen]])
        closest = np.maximum((vectors @ known.T).max(axis=1), 0)
        gains = (1 - weight) * quality + weight * (1 - closest)
        gains[chosen] = -np.inf
        chosen.append(int(gains.argmax()))
    return chosen


def test_nothing_to_choose_from() -> None:
    """A class of which no row came through gives none, and the others theirs."""
    chosen = choose([row("text")], {}, {"a": 2, "b": 2}, seeds=[], diversity_weight=0.3)
    assert [item.target for item in chosen] == ["a"]


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
    even = share_quotas(100, TaskBrief(seeds, is_classification=True), is_even=True)
    assert even == {"a": 50, "b": 50}
