"""The quality classifier: seeds against corrupted seeds, on input and target together.

Its score is a probability at a stated prior (65 % of what a teacher writes is good, the seed
paper's retention). It drops rows only where it has shown that it can tell good from bad: with
50 seeds or more and a lower bound of its AUC, on seeds it had not seen, of 0.7 or more.
Otherwise it is advisory: rows are ranked by it and none is dropped.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse
from scipy.stats import rankdata
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.filters.base import Verdict
from loam_runtime.synthesis.filters.corruptions import Pair, corrupt_seed

PRIOR_GOOD = 0.65
MIN_SEEDS_TO_DROP = 50
MIN_SEEDS_TO_RANK = 8
MIN_AUC_LOWER_BOUND = 0.7
NUM_FOLDS = 5
NUM_RESAMPLES = 400
MAX_SEEDS = 2000  # more teach little and cost time


@dataclass(frozen=True, slots=True)
class QualityFit:
    """How the classifier did on seeds it had not seen.

    Attributes:
        num_seeds: it learned from.
        auc: area under the ROC curve over out-of-fold scores; NaN where it was not fitted.
        auc_low: 2.5 % bound, bootstrap over seeds.
    """

    num_seeds: int
    auc: float
    auc_low: float

    @property
    def is_advisory(self) -> bool:
        """Too few seeds, or not good enough, to drop anything."""
        return self.num_seeds < MIN_SEEDS_TO_DROP or not self.auc_low >= MIN_AUC_LOWER_BOUND


class QualityFilter:
    """Drops rows under the threshold, where it may.

    Args:
        seeds: training rows.
        threshold: least probability of being good, 0 to 1.
        is_classification: targets are labels.
        random_seed: of the run; fixes corruptions and folds.
    """

    name = "quality"

    def __init__(
        self,
        seeds: Sequence[Example],
        threshold: float,
        *,
        is_classification: bool,
        random_seed: int = 0,
    ) -> None:
        self._threshold = threshold
        self._featurizer = _Featurizer(is_classification)
        self._model: LogisticRegression | None = None
        self._platt: LogisticRegression | None = None
        rng = random.Random(random_seed)
        chosen = list(seeds) if len(seeds) <= MAX_SEEDS else rng.sample(list(seeds), MAX_SEEDS)
        self.fit = self._fit(chosen, rng, is_classification)

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """See `Filter`. Scores are probabilities; 0.65 for all where nothing could be learnt."""
        scores = self._score([(row.input, row.target) for row in rows])
        limit = 0.0 if self.fit.is_advisory else self._threshold
        return [
            Verdict("" if score >= limit else f"quality under {limit:g}", round(float(score), 4))
            for score in scores
        ]

    def describe(self) -> dict[str, object]:
        """See `Filter`."""
        fit = self.fit
        return {
            "threshold": self._threshold,
            "advisory": fit.is_advisory,
            "seeds": fit.num_seeds,
            "auc": None if np.isnan(fit.auc) else round(fit.auc, 4),
            "auc_lower_bound": None if np.isnan(fit.auc_low) else round(fit.auc_low, 4),
            "prior": PRIOR_GOOD,
        }

    def _score(self, pairs: Sequence[Pair]) -> np.ndarray:
        """[num_pairs]: probability of being good at the stated prior."""
        if self._model is None or self._platt is None:
            return np.full(len(pairs), PRIOR_GOOD)
        margins = self._model.decision_function(self._featurizer.transform(pairs))
        return self._platt.predict_proba(margins[:, None])[:, 1]

    def _fit(
        self, seeds: Sequence[Example], rng: random.Random, is_classification: bool
    ) -> QualityFit:
        if len(seeds) < MIN_SEEDS_TO_RANK:
            return QualityFit(len(seeds), np.nan, np.nan)
        pairs, is_good, groups = _build_training_rows(seeds, rng, is_classification)
        features = self._featurizer.fit(seeds).transform(pairs)
        margins = np.zeros(len(pairs))
        for train, held_out in GroupKFold(NUM_FOLDS).split(features, is_good, groups):
            model = _fit_classifier(features[train], is_good[train])
            margins[held_out] = model.decision_function(features[held_out])
        self._model = _fit_classifier(features, is_good)
        self._platt = _fit_platt(margins, is_good)
        low = _bound_auc(margins, is_good, groups)
        return QualityFit(len(seeds), _compute_auc(margins, is_good), low)


class _Featurizer:
    """Hashed n-grams of the pair, and how input and target agree."""

    def __init__(self, is_classification: bool) -> None:
        self._is_classification = is_classification
        self._chars = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=2**15)
        self._words = HashingVectorizer(analyzer=str.split, n_features=2**15)
        self._typical_lengths = (1.0, 1.0)

    def fit(self, seeds: Sequence[Example]) -> _Featurizer:
        """Learn the usual lengths, which the agreement features are relative to."""
        inputs = np.median([len(seed.input.split()) for seed in seeds])
        targets = np.median([len(seed.target.split()) for seed in seeds])
        self._typical_lengths = (float(max(inputs, 1)), float(max(targets, 1)))
        return self

    def transform(self, pairs: Sequence[Pair]) -> sparse.csr_matrix:
        """[num_pairs, num_features]."""
        own = [text if self._is_classification else target for text, target in pairs]
        return sparse.hstack(
            [
                self._chars.transform(own),
                self._words.transform([self._join(pair) for pair in pairs]),
                sparse.csr_matrix([self._agree(pair) for pair in pairs]),
            ],
            format="csr",
        )

    def _join(self, pair: Pair) -> str:
        """Words and word pairs; in classification each also together with the label."""
        text, target = pair
        words = (text if self._is_classification else target).lower().split()
        grams = [*words, *(f"{a}_{b}" for a, b in pairwise(words))]
        if self._is_classification:
            label = "_".join(target.split())
            grams += [f"{label}|{word}" for word in words]
        return " ".join(grams)

    def _agree(self, pair: Pair) -> list[float]:
        first, second = (text.lower().split() for text in pair)
        shared = set(first) & set(second)
        main = first if self._is_classification else second
        return [
            len(shared) / max(len(set(second)), 1),
            float(np.log1p(len(first) / self._typical_lengths[0])),
            float(np.log1p(len(second) / self._typical_lengths[1])),
            len(set(main)) / max(len(main), 1),
            float(pair[0].strip() == pair[1].strip()),
            float(pair[0 if self._is_classification else 1].rstrip()[-1:] in ".?!"),
        ]


def _build_training_rows(
    seeds: Sequence[Example], rng: random.Random, is_classification: bool
) -> tuple[list[Pair], np.ndarray, np.ndarray]:
    """Seeds and their corruptions; a seed and what was made of it form one group."""
    pairs: list[Pair] = []
    is_good: list[int] = []
    groups: list[int] = []
    for group, seed in enumerate(seeds):
        bad = corrupt_seed(seed, seeds, rng, is_classification=is_classification)
        pairs += [(seed.input, seed.target), *bad]
        is_good += [1] + [0] * len(bad)
        groups += [group] * (1 + len(bad))
    return pairs, np.array(is_good), np.array(groups)


def _fit_classifier(features: sparse.csr_matrix, is_good: np.ndarray) -> LogisticRegression:
    model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000, solver="liblinear")
    return model.fit(features, is_good)


def _fit_platt(margins: np.ndarray, is_good: np.ndarray) -> LogisticRegression:
    """Margins to probabilities, the two kinds weighted as the stated prior says."""
    weights = np.where(
        is_good == 1, PRIOR_GOOD / is_good.sum(), (1 - PRIOR_GOOD) / (1 - is_good).sum()
    )
    platt = LogisticRegression(C=1e6, max_iter=1000)
    return platt.fit(margins[:, None], is_good, sample_weight=weights * len(is_good))


def _compute_auc(margins: np.ndarray, is_good: np.ndarray) -> float:
    """Area under the ROC curve, by ranks (the bootstrap asks for it hundreds of times)."""
    num_good, num_bad = is_good.sum(), (1 - is_good).sum()
    rank_sum = rankdata(margins)[is_good == 1].sum()
    return float((rank_sum - num_good * (num_good + 1) / 2) / (num_good * num_bad))


def _bound_auc(margins: np.ndarray, is_good: np.ndarray, groups: np.ndarray) -> float:
    """Lower end of the 95 % interval of the AUC, resampling seeds with all made of them."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    values = []
    for _ in range(NUM_RESAMPLES):
        drawn = rng.integers(0, len(members), len(members))
        places = np.concatenate([members[place] for place in drawn])
        values.append(_compute_auc(margins[places], is_good[places]))
    return float(np.quantile(values, 0.025))
