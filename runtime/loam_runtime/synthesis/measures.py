"""What a set of synthetic rows is like, beside the seeds: variety, repetition, novelty.

Numbers that depend on the size of a set are taken of equally many rows of both.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from loam_runtime.data.examples import Example
from loam_runtime.data.normalize import normalize_text
from loam_runtime.synthesis.filters.base import get_compared_text

Embed = Callable[[Sequence[str]], np.ndarray]
MAX_SAMPLE = 100  # rows whose words are compared with one another: seconds, not minutes
MAX_WORDS = 200  # of each of them
MAX_EMBEDDED = 5000
MIN_ROWS = 2  # fewer cannot be compared with each other
MIN_AGREEMENT_SEEDS = 20  # fewer teach a classifier of labels too little
NUM_FOLDS = 5


def measure_rows(
    rows: Sequence[Example],
    seeds: Sequence[Example],
    *,
    is_classification: bool,
    embed: Embed,
    random_seed: int = 0,
) -> dict[str, Any]:
    """The measures of the report and the data card; None where there are too few rows.

    Returns:
        "labels": rows by label, and "label_balance": entropy over that of equal shares, 0 to 1.
        "sample": rows of each side that the measures of words were taken of.
        "distinct": share of different word 1-, 2- and 3-grams (Li et al., 2016), higher is more
        varied. "self_bleu": mean BLEU-4 of a row against the others of the sample (Zhu et al.,
        2018), lower is more varied. "dispersion": mean cosine distance of two rows. Each of
        "synthetic" and "seeds". "novelty": cosine distance to the nearest seed, its median and
        10th percentile. "agreement": of each side, the share whose label a classifier gives
        that learnt it from the seeds (of a seed, from the others); None without labels.
    """
    rng = random.Random(random_seed)
    texts, seed_texts = (
        [get_compared_text(row, is_classification=is_classification).strip() for row in side]
        for side in (rows, seeds)
    )
    size = min(len(texts), len(seed_texts), MAX_SAMPLE)
    sampled = [_split(rng.sample(side, size)) for side in (texts, seed_texts)]
    vectors, seed_vectors = (
        embed(rng.sample(side, min(len(side), MAX_EMBEDDED))) for side in (texts, seed_texts)
    )
    labels = Counter(row.target for row in rows) if is_classification else Counter()
    return {
        "labels": dict(sorted(labels.items())),
        "label_balance": measure_balance(labels, len({seed.target for seed in seeds})),
        "sample": size,
        "distinct": _name_sides([[measure_distinct(it, n) for n in (1, 2, 3)] for it in sampled]),
        "self_bleu": _name_sides([measure_self_bleu(it) for it in sampled]),
        "dispersion": _name_sides([measure_dispersion(it) for it in (vectors, seed_vectors)]),
        "novelty": measure_novelty(vectors, seed_vectors),
        "agreement": measure_agreement(rows, seeds, embed) if is_classification else None,
    }


def measure_balance(counts: Counter[str], num_labels: int) -> float | None:
    """Entropy of the labels over its greatest value: 1 for equal shares, 0 for a single label."""
    total = counts.total()
    if not total or num_labels < 2:
        return None
    shares = [count / total for count in counts.values() if count]
    return round(-sum(share * math.log(share) for share in shares) / math.log(num_labels), 4)


def measure_distinct(texts: Sequence[Sequence[str]], length: int) -> float | None:
    """Different word n-grams over all of them; None where there is none."""
    grams = [
        tuple(words[start : start + length])
        for words in texts
        for start in range(len(words) - length + 1)
    ]
    return round(len(set(grams)) / len(grams), 4) if grams else None


def measure_self_bleu(texts: Sequence[Sequence[str]]) -> float | None:
    """Mean BLEU-4 of each text against all others, smoothed (Chen and Cherry, 2014, method 1)."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    if len(texts) < MIN_ROWS:
        return None
    smoothing = SmoothingFunction().method1
    scores = [
        sentence_bleu([*texts[:place], *texts[place + 1 :]], text, smoothing_function=smoothing)
        for place, text in enumerate(texts)
    ]
    return round(float(np.mean(scores)), 4)


def measure_dispersion(vectors: np.ndarray) -> float | None:
    """Mean cosine distance of two different rows; vectors [num_rows, dimensions], unit length."""
    count = len(vectors)
    if count < MIN_ROWS:
        return None
    total = np.square(vectors.sum(axis=0, dtype=np.float64)).sum()  # of all pairs, own ones too
    return round(float(1 - (total - count) / (count * (count - 1))), 4)


def measure_novelty(vectors: np.ndarray, seeds: np.ndarray) -> dict[str, float] | None:
    """Cosine distance of rows to their nearest seed: median and 10th percentile."""
    if not len(vectors) or not len(seeds):
        return None
    distances = 1 - (vectors @ seeds.T).max(axis=1)
    low, middle = np.quantile(distances, [0.1, 0.5])
    return {"p10": round(float(low), 4), "p50": round(float(middle), 4)}


def measure_agreement(
    rows: Sequence[Example], seeds: Sequence[Example], embed: Embed
) -> dict[str, float] | None:
    """Share of rows whose own label is that of a classifier of the seeds' embeddings.

    What it gets right of seeds that it has not seen says how much its word is worth: rows far
    below that are labelled otherwise than the seeds are.

    Returns:
        "synthetic" and "seeds"; None without rows, with one label or too few seeds.
    """
    from loam_runtime.synthesis.filters.quality_features import LabelJudge

    labels = np.array([seed.target for seed in seeds])
    if not rows or len(seeds) < MIN_AGREEMENT_SEEDS or len(set(labels)) < 2:
        return None
    vectors = embed([seed.input for seed in seeds])
    folds = np.empty(len(seeds), int)  # each has its share of every label, and none is empty
    folds[np.argsort(labels, kind="stable")] = np.arange(len(seeds)) % NUM_FOLDS
    found = np.empty_like(labels)
    for fold in range(NUM_FOLDS):
        out = folds == fold
        found[out] = LabelJudge(vectors[~out], labels[~out]).choose(vectors[out])
    chosen = LabelJudge(vectors, labels).choose(embed([row.input for row in rows[:MAX_EMBEDDED]]))
    own = np.array([row.target for row in rows[:MAX_EMBEDDED]])
    return {
        "synthetic": round(float((chosen == own).mean()), 4),
        "seeds": round(float((found == labels).mean()), 4),
    }


def _split(texts: Sequence[str]) -> list[list[str]]:
    return [normalize_text(text).split()[:MAX_WORDS] for text in texts]


def _name_sides(values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(("synthetic", "seeds"), values, strict=True))
