"""Which real examples a request shows: each in its turn, with others unlike it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.strategies.base import TaskBrief, pick

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MAX_CANDIDATES = 24  # seeds compared for one request; enough to find a few that differ


class ShotRotation:
    """Few-shot examples that rotate: every seed of a label leads once before any leads again.

    The others are taken one by one, each time the one that is least like those taken so far
    (cosine of character n-grams), from candidates that change from request to request.
    """

    def __init__(self, brief: TaskBrief) -> None:
        self._brief = brief
        self._pools = {label: brief.list_seeds(label) for label in brief.labels}

    def choose(self, label: str, turn: int, count: int) -> list[Example]:
        """Up to `count` seeds of a label, in random order.

        Args:
            turn: how many requests of this label came before.
        """
        pool = self._pools[label]
        leader = self._find_leader(pool, label, turn)
        rng = random.Random(f"{self._brief.random_seed}/{label}/{turn}/shots")
        others = pick(rng, [seed for seed in pool if seed is not leader], MAX_CANDIDATES)
        half = others[: max(count, len(others) // 2)]  # else few seeds give one set of shots only
        chosen = [leader, *_take_unlike(leader, half, count - 1)]
        rng.shuffle(chosen)
        return chosen

    def _find_leader(self, pool: Sequence[Example], label: str, turn: int) -> Example:
        turns, place = divmod(turn, len(pool))
        order = list(range(len(pool)))
        random.Random(f"{self._brief.random_seed}/{label}/{turns}/leader").shuffle(order)
        return pool[order[place]]


def _take_unlike(leader: Example, candidates: Sequence[Example], count: int) -> list[Example]:
    """Greedy: the candidate whose nearest neighbour among those taken is farthest."""
    if len(candidates) <= count:
        return list(candidates)
    vectors = _embed([leader, *candidates])
    similarities = (vectors @ vectors.T).toarray()
    nearest = similarities[0, 1:].copy()
    taken: list[Example] = []
    for _ in range(count):
        place = int(nearest.argmin())
        taken.append(candidates[place])
        nearest = nearest.clip(min=similarities[place + 1, 1:])
        nearest[place] = 2  # above any cosine: never taken twice
    return taken


def _embed(rows: Sequence[Example]) -> csr_matrix:
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=2**17)
    return vectorizer.transform([f"{row.input}\n{row.target}" for row in rows])
