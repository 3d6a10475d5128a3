"""Which of the rows that passed are kept: good ones, and unlike each other.

Greedy on (1 - w) quality + w diversity, class by class. Diversity is one minus the greatest
cosine similarity (hashed character n-grams) to a seed or to a row already chosen. That falls
as rows are chosen, so a row is looked at again only when it comes first (lazy greedy).
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer

from loam_runtime.data.examples import Example


def select_rows(
    rows: Sequence[Example],
    scores: Mapping[str, float],
    quotas: Mapping[str, int],
    *,
    seeds: Sequence[Example],
    diversity_weight: float,
) -> list[Example]:
    """Up to `quotas[label]` rows of each pool, best first within a pool.

    Args:
        rows: candidates.
        scores: quality by row id; a row without one counts as 0.5.
        quotas: rows wanted by label; the one name "" for a task without labels.
        diversity_weight: w, 0 to 1.

    Returns:
        The chosen rows, pool by pool in turn, so that any beginning of the list is balanced.
    """
    has_labels = set(quotas) != {""}
    pools: dict[str, list[Example]] = defaultdict(list)
    for row in rows:
        pools[row.target if has_labels else ""].append(row)
    chosen = []
    for label, quota in quotas.items():
        pool = pools[label]
        near = [seed for seed in seeds if not has_labels or seed.target == label]
        order = _order_pool(pool, scores, quota, near, diversity_weight)
        chosen.append([pool[place] for place in order])
    return _interleave(chosen)


def _order_pool(
    pool: Sequence[Example],
    scores: Mapping[str, float],
    quota: int,
    near: Sequence[Example],
    weight: float,
) -> list[int]:
    """Places in the pool, in the order they are chosen."""
    if not pool or quota <= 0:
        return []
    vectors = _embed([*near, *pool])
    base, candidates = vectors[: len(near)], vectors[len(near) :]
    closest = np.zeros(len(pool))
    if near:
        closest = np.asarray((candidates @ base.T).max(axis=1).todense()).ravel()
    quality = np.array([scores.get(row.id, 0.5) for row in pool])
    gains = (1 - weight) * quality + weight * (1 - closest)
    heap = [(-gain, place, 0) for place, gain in enumerate(gains)]
    heapq.heapify(heap)
    order: list[int] = []
    while heap and len(order) < quota:
        _, place, num_compared = heapq.heappop(heap)
        if num_compared < len(order):  # chosen since: its diversity may have fallen
            fresh = candidates[order[num_compared:]] @ candidates[place].T
            similarity = max(float(closest[place]), float(fresh.max()))
            closest[place] = similarity
            gain = (1 - weight) * quality[place] + weight * (1 - similarity)
            heapq.heappush(heap, (-gain, place, len(order)))
        else:
            order.append(place)
    return order


def _embed(rows: Sequence[Example]) -> sparse.csr_matrix:
    vectorizer = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=2**17)
    return vectorizer.transform([f"{row.input}\n{row.target}" for row in rows])


def _interleave(lists: Sequence[Sequence[Example]]) -> list[Example]:
    longest = max(map(len, lists), default=0)
    return [items[place] for place in range(longest) for items in lists if place < len(items)]
