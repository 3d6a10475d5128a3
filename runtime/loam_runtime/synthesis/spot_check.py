"""The human spot check: a sample to look at, and what leaves the set by a person's word.

The sample is stratified by label and, inside a label, by score: a quality filter is most wrong
where it is least sure, and a sample of the best rows alone would not show it. After "Validate
synthetic data quality with a human spot-check before training" (the DSS paper's advice).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from loam_runtime.data.examples import Example
from loam_runtime.errors import InputError
from loam_runtime.synthesis.strategies.base import Rejection

if TYPE_CHECKING:
    from loam_runtime.synthesis.filters.base import Filter

# Cosine of two rows' embeddings from which one is like the other: three wordings of one complaint
# lie at 0.80 to 0.92, and no two of one label among the 140 support tickets reach 0.71.
ALIKE = 0.75
MAX_LISTED = 5


def draw_sample(
    rows: Sequence[Example],
    scores: Mapping[str, float],
    size: int,
    *,
    is_classification: bool,
    random_seed: int = 0,
) -> list[Example]:
    """Rows for a person to look at, label by label, in each from the least to the best score.

    Every label has its share of the sample, and at least one row while there is room. Inside a
    label rows are taken at even steps along the score, from a random start.

    Args:
        scores: quality by row id; a row without one counts as 0.5.
        size: most rows.
    """
    pools: dict[str, list[Example]] = {}
    for row in rows:
        pools.setdefault(row.target if is_classification else "", []).append(row)
    shares = _share(size, {label: len(pool) for label, pool in pools.items()})
    rng = random.Random(random_seed)
    sample = []
    for label in sorted(pools):
        pool = sorted(pools[label], key=lambda row: (scores.get(row.id, 0.5), row.id))
        sample += _take_evenly(pool, shares[label], rng)
    return sample


def remove_rejected(
    rows: Sequence[Example],
    rejected_ids: Sequence[str],
    good_ids: Sequence[str] = (),
    *,
    is_classification: bool,
) -> tuple[list[Example], list[Rejection]]:
    """The rows that stay, and those that leave.

    A row leaves if a person rejected it. A row that nobody looked at leaves with it if it has the
    same label, the cosine of the two embeddings (input and target together) is `ALIKE` or more,
    and no row that was marked good is nearer to it.

    Args:
        rejected_ids, good_ids: of rows that a person looked at.

    Raises:
        InputError: an id that no row has.
    """
    by_id = {row.id: row for row in rows}
    unknown = [one for one in (*rejected_ids, *good_ids) if one not in by_id]
    if unknown:
        raise InputError(
            f"No synthetic row has the id {', '.join(map(repr, unknown[:MAX_LISTED]))} "
            f"({len(unknown)} unknown).",
            remedy="Take the ids from data/spot_check.csv of this run.",
        )
    reasons = dict.fromkeys(rejected_ids, "rejected by a person")
    if rejected_ids:
        reasons |= _find_alike(rows, set(rejected_ids), set(good_ids), is_classification)
    kept = [row for row in rows if row.id not in reasons]
    return kept, [Rejection(row, reasons[row.id], "review") for row in rows if row.id in reasons]


def remove_low_quality(
    rows: Sequence[Example], classifier: Filter, good_ids: Sequence[str]
) -> tuple[list[Example], list[Rejection]]:
    """The rows that stay, and those that leave by a classifier that has learnt from the verdicts.

    Before, it knew bad rows as rules and a teacher make them; then also as they came.

    Args:
        good_ids: of rows that a person marked good; they stay in any case.
    """
    verdicts = dict(zip(rows, classifier.judge(rows), strict=True))
    removed = [
        Rejection(row, f"{verdict.reason} by the verdicts of the review", "review", verdict.score)
        for row, verdict in verdicts.items()
        if verdict.reason and row.id not in good_ids
    ]
    gone = {one.row.id for one in removed}
    return [row for row in rows if row.id not in gone], removed


def _find_alike(
    rows: Sequence[Example], rejected: set[str], good: set[str], is_classification: bool
) -> dict[str, str]:
    """The reason by id for rows that nobody looked at."""
    from loam_runtime.synthesis.embeddings import embed_texts

    vectors = embed_texts([f"{row.input}\n{row.target}" for row in rows])
    labels = np.array([row.target if is_classification else "" for row in rows])
    is_rejected = np.array([row.id in rejected for row in rows])
    is_good = np.array([row.id in good for row in rows])
    reasons = {}
    for label in np.unique(labels[is_rejected]):
        places = np.flatnonzero((labels == label) & ~is_rejected & ~is_good)
        bad = np.flatnonzero((labels == label) & is_rejected)
        near_bad = vectors[places] @ vectors[bad].T
        fine = np.flatnonzero((labels == label) & is_good)
        near_good = (vectors[places] @ vectors[fine].T).max(1, initial=-1.0)
        for place, likeness, limit in zip(places, near_bad, near_good, strict=True):
            best = int(likeness.argmax())
            if likeness[best] >= max(ALIKE, limit):
                alike = rows[bad[best]].id
                reasons[rows[place].id] = f"like {alike}, which a person rejected"
    return reasons


def _share(size: int, counts: Mapping[str, int]) -> dict[str, int]:
    """Places by label: one each first, the rest to the label that is furthest behind its share."""
    shares = dict.fromkeys(counts, 0)
    for _ in range(min(size, sum(counts.values()))):
        open_labels = [label for label in counts if shares[label] < counts[label]]
        best = min(open_labels, key=lambda label: (shares[label] / counts[label], label))
        shares[best] += 1
    return shares


def _take_evenly(pool: Sequence[Example], count: int, rng: random.Random) -> list[Example]:
    if count == 0:
        return []
    step = len(pool) / count
    start = rng.random() * step
    return [pool[min(len(pool) - 1, int(start + place * step))] for place in range(count)]
