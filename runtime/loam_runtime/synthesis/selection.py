"""Which of the rows that passed are kept: good ones, and unlike each other.

Class by class, greedily, the row that adds most to

    (1 - w) quality + w diversity,

diversity being one minus the greatest cosine similarity of embeddings (under 0 counts as 0) to a
seed of the class or to a row already chosen: maximal marginal relevance (Carbonell and Goldstein,
1998), w the `diversityWeight`. A row's gain only falls as others are chosen, so what was known of
it is a bound, and most rows need not be looked at in most steps (Minoux, 1978).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from loam_runtime.data.examples import Example

Embed = Callable[[Sequence[str]], np.ndarray]
DEFAULT_QUALITY = 0.5
_SHORT_LIST = 4096  # rows looked at in every step


def select_rows(
    rows: Sequence[Example],
    scores: Mapping[str, float],
    quotas: Mapping[str, int],
    *,
    seeds: Sequence[Example],
    diversity_weight: float,
    embed: Embed,
) -> list[Example]:
    """Up to `quotas[label]` rows of each pool, best first within a pool.

    Args:
        rows: candidates.
        scores: quality by row id; a row without one counts as 0.5.
        quotas: rows wanted by label; the one name "" for a task without labels.
        diversity_weight: w, 0 to 1.
        embed: [num_texts, dimensions] of unit length.

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
        quality = np.array([scores.get(row.id, DEFAULT_QUALITY) for row in pool])
        # Without weight on diversity nothing is embedded, which is most of the time taken.
        texts = [_join(row, has_labels) for row in (*near, *pool)] if diversity_weight else []
        vectors = embed(texts) if texts else np.zeros((len(near) + len(pool), 1), np.float32)
        order = order_pool(
            vectors[len(near) :], quality, quota, near=vectors[: len(near)], weight=diversity_weight
        )
        chosen.append([pool[place] for place in order])
    return _interleave(chosen)


def order_pool(
    vectors: np.ndarray, quality: np.ndarray, quota: int, *, near: np.ndarray, weight: float
) -> list[int]:
    """Places in the pool, in the order they are chosen; of equal gains the first place wins.

    Only the rows of greatest gain are looked at in each step, until one outside might beat them
    all; then every row is compared with what was chosen since, in one matrix product.

    Args:
        vectors: [num_rows, dimensions], of unit length.
        quality: [num_rows].
        near: [num_seeds, dimensions]: what counts as chosen already.
    """
    closest = _raise_closest(np.zeros(len(vectors), np.float32), vectors, near)
    is_left = np.ones(len(vectors), bool)
    order: list[int] = []
    while len(order) < min(quota, len(vectors)):
        gains = np.where(is_left, (1 - weight) * quality + weight * (1 - closest), -np.inf)
        short, bound = _list_greatest(gains)
        picked = _pick(
            vectors[short], quality[short], closest[short], quota - len(order), bound, weight
        )
        places = short[picked]
        is_left[places] = False
        order += places.tolist()
        closest = _raise_closest(closest, vectors, vectors[places])
    return order


def _list_greatest(gains: np.ndarray) -> tuple[np.ndarray, float]:
    """Places of the greatest gains in ascending order, and the greatest gain of all others."""
    if len(gains) <= _SHORT_LIST:
        return np.flatnonzero(np.isfinite(gains)), -np.inf
    ranked = np.argsort(-gains, kind="stable")
    short = np.sort(ranked[:_SHORT_LIST])
    return short[np.isfinite(gains[short])], float(gains[ranked[_SHORT_LIST]])


def _pick(
    vectors: np.ndarray,
    quality: np.ndarray,
    closest: np.ndarray,
    quota: int,
    bound: float,
    weight: float,
) -> list[int]:
    """Places chosen one after another as long as none outside, all within `bound`, is better."""
    closest = closest.copy()
    gains = (1 - weight) * quality + weight * (1 - closest)
    picked: list[int] = []
    while len(picked) < min(quota, len(vectors)):
        place = int(gains.argmax())
        if picked and gains[place] < bound:
            break
        picked.append(place)
        np.maximum(closest, vectors @ vectors[place], out=closest)
        gains = (1 - weight) * quality + weight * (1 - closest)
        gains[picked] = -np.inf
    return picked


def _raise_closest(closest: np.ndarray, vectors: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """[num_rows]: greatest similarity to any of the chosen, block by block to spare memory."""
    for start in range(0, len(chosen), 512):
        similarities = vectors @ chosen[start : start + 512].T
        closest = np.maximum(closest, similarities.max(axis=1))
    return closest


def _join(row: Example, is_classification: bool) -> str:
    """What a row is, to its embedding: in a pool of one label the label says nothing."""
    return row.input if is_classification else f"{row.input}\n{row.target}".strip()


def _interleave(lists: Sequence[Sequence[Example]]) -> list[Example]:
    longest = max(map(len, lists), default=0)
    return [items[place] for place in range(longest) for items in lists if place < len(items)]
