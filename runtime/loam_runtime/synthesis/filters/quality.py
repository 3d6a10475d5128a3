"""The quality classifier: seeds against bad versions of them, on input and target together.

It is a logistic regression on words, on the embeddings of a frozen encoder, and on how the two
sides agree (`quality_features`): what is fine-tuned on the seeds takes seconds on two cores.
Its score is a probability at a stated prior (65 % of what a teacher writes is good, the seed
paper's retention). It drops rows only where it has shown that it can tell good from bad: with
50 seeds or more and a lower bound of its AUC, on seeds it had not seen, of 0.7 or more.
Otherwise it is advisory: rows are ranked by it and none is dropped.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.filters.base import Ask, Verdict
from loam_runtime.synthesis.filters.corruptions import NUM_FOLDS, Pair, corrupt_seed
from loam_runtime.synthesis.filters.quality_features import PairFeaturizer
from loam_runtime.synthesis.filters.wrong_answers import FAULT, WrongAnswers

PRIOR_GOOD = 0.65
MIN_SEEDS_TO_DROP = 50
MIN_SEEDS_TO_RANK = 8
MIN_AUC_LOWER_BOUND = 0.7
NUM_RESAMPLES = 400
ROC_POINTS = 21
MAX_SEEDS = 2000  # more teach little and cost time
REJECTED = "rejected by a person"


@dataclass(frozen=True, slots=True)
class QualityFit:
    """How the classifier did on seeds it had not seen.

    Attributes:
        num_seeds: it learned from.
        auc: area under the ROC curve over out-of-fold scores; NaN where it was not fitted.
        auc_low, auc_high: 95 % interval, bootstrap over seeds.
        auc_by_fault: seeds against one kind of corruption each.
        roc: points (share of bad rows kept, share of good rows kept), from the highest threshold.
    """

    num_seeds: int
    auc: float = np.nan
    auc_low: float = np.nan
    auc_high: float = np.nan
    auc_by_fault: dict[str, float] = field(default_factory=dict)
    roc: tuple[tuple[float, float], ...] = ()

    @property
    def is_advisory(self) -> bool:
        """Too few seeds, or not good enough, to drop anything."""
        return self.num_seeds < MIN_SEEDS_TO_DROP or not self.auc_low >= MIN_AUC_LOWER_BOUND


@dataclass(frozen=True, slots=True)
class KnownRows:
    """What is known to be good or bad beside the seeds and what rules make of them.

    Attributes:
        wrong_answers: a teacher's, by the seed's id.
        approved, rejected: synthetic rows that a person has looked at.
    """

    wrong_answers: Mapping[str, str] = field(default_factory=dict)
    approved: Sequence[Example] = ()
    rejected: Sequence[Example] = ()


class QualityFilter:
    """Drops rows under the threshold, where it may. It is fitted when it is first needed.

    Args:
        seeds: training rows.
        threshold: least probability of being good, 0 to 1.
        is_classification: targets are labels.
        random_seed: of the run; fixes corruptions and folds.
        wrong_answers: what it may ask the teacher for.
        known: what it learns from beside the seeds.
    """

    name = "quality"

    def __init__(
        self,
        seeds: Sequence[Example],
        threshold: float,
        *,
        is_classification: bool,
        random_seed: int = 0,
        wrong_answers: WrongAnswers | None = None,
        known: KnownRows | None = None,
    ) -> None:
        self._seeds = list(seeds)
        self._threshold = threshold
        self._is_classification = is_classification
        self._random_seed = random_seed
        self._wrong_answers = wrong_answers
        self._known = known or KnownRows()
        self._featurizer = PairFeaturizer(is_classification)
        self._model: LogisticRegression | None = None
        self._platt: LogisticRegression | None = None

    @property
    def asks(self) -> bool:
        """See `LearningFilter`."""
        return self._wrong_answers is not None

    async def learn(self, ask: Ask) -> None:
        """See `LearningFilter`."""
        if self._wrong_answers is not None:
            await self._wrong_answers.ask(ask)
            self._known = replace(self._known, wrong_answers=self._wrong_answers.texts)

    @cached_property
    def fit(self) -> QualityFit:
        """How it did; what it is asked for from then on counts no more."""
        rng = random.Random(self._random_seed)
        return self._fit(self._choose_seeds(rng), rng)

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """See `Filter`. Scores are probabilities; 0.65 for all where nothing could be learnt."""
        limit = 0.0 if self.fit.is_advisory else self._threshold
        scores = self._score([(row.input, row.target) for row in rows])
        return [
            Verdict("" if score >= limit else f"quality under {limit:g}", round(float(score), 4))
            for score in scores
        ]

    def describe(self) -> dict[str, object]:
        """See `Filter`."""
        fit = self.fit
        asked = self._wrong_answers.describe() if self._wrong_answers else {}
        note = {"note": asked.pop("note")} if "note" in asked else {}
        return {
            **note,
            **({"wrong_answers": asked} if asked else {}),
            "threshold": self._threshold,
            "advisory": fit.is_advisory,
            "seeds": fit.num_seeds,
            "auc": _round(fit.auc),
            "auc_lower_bound": _round(fit.auc_low),
            "auc_upper_bound": _round(fit.auc_high),
            "auc_by_fault": {name: _round(auc) for name, auc in fit.auc_by_fault.items()},
            "roc": [list(point) for point in fit.roc],
            "prior": PRIOR_GOOD,
        }

    def _score(self, pairs: Sequence[Pair]) -> np.ndarray:
        """[num_pairs]: probability of being good at the stated prior."""
        if self._model is None or self._platt is None:
            return np.full(len(pairs), PRIOR_GOOD)
        margins = self._model.decision_function(self._featurizer.transform(pairs))
        return self._platt.predict_proba(margins[:, None])[:, 1]

    def _choose_seeds(self, rng: random.Random) -> list[Example]:
        """All, or `MAX_SEEDS` of them, those with a wrong answer first."""
        if len(self._seeds) <= MAX_SEEDS:
            return self._seeds
        wrong = self._known.wrong_answers
        first = [seed for seed in self._seeds if seed.id in wrong]
        others = [seed for seed in self._seeds if seed.id not in wrong]
        return first + rng.sample(others, MAX_SEEDS - len(first))

    def _fit(self, seeds: Sequence[Example], rng: random.Random) -> QualityFit:
        if len(seeds) < MIN_SEEDS_TO_RANK:
            return QualityFit(len(seeds))
        order = rng.sample(range(len(seeds)), len(seeds))
        seed_folds = np.array(order) % NUM_FOLDS
        rows = _build_training_rows(seeds, seed_folds, rng, self._is_classification, self._known)
        folds = _spread(seed_folds, rows.groups)
        self._featurizer.fit(seeds, seed_folds)
        features = self._featurizer.transform(rows.pairs, folds)
        margins = np.zeros(len(rows.pairs))
        for fold in range(NUM_FOLDS):
            train, held_out = folds != fold, folds == fold
            model = _fit_classifier(features[train], rows.is_good[train])
            margins[held_out] = model.decision_function(features[held_out])
        self._model = _fit_classifier(features, rows.is_good)
        self._platt = _fit_platt(margins, rows.is_good)
        return _measure(len(seeds), margins, rows)


@dataclass(frozen=True, slots=True)
class _TrainingRows:
    """Seeds and their corruptions; a seed and what was made of it form one group.

    Attributes:
        pairs, is_good, groups: [num_pairs]; a group is the place of its seed, and beyond the seeds
            each row that a person looked at is one.
        faults: name of what is wrong with each; "" for what is good.
    """

    pairs: list[Pair]
    is_good: np.ndarray
    groups: np.ndarray
    faults: np.ndarray


def _build_training_rows(
    seeds: Sequence[Example],
    folds: np.ndarray,
    rng: random.Random,
    is_classification: bool,
    known: KnownRows,
) -> _TrainingRows:
    pairs: list[Pair] = []
    faults: list[str] = []
    groups: list[int] = []
    for group, seed in enumerate(seeds):
        bad = corrupt_seed(
            seed, seeds, rng, is_classification=is_classification, fold=int(folds[group])
        )
        if seed.id in known.wrong_answers:
            bad.append((FAULT, (seed.input, known.wrong_answers[seed.id])))
        pairs += [(seed.input, seed.target), *(pair for _, pair in bad)]
        faults += ["", *(name for name, _ in bad)]
        groups += [group] * (1 + len(bad))
    judged = [*known.approved, *known.rejected]
    pairs += [(row.input, row.target) for row in judged]
    faults += [""] * len(known.approved) + [REJECTED] * len(known.rejected)
    groups += range(len(seeds), len(seeds) + len(judged))
    names = np.array(faults)
    return _TrainingRows(pairs, (names == "").astype(int), np.array(groups), names)


def _spread(seed_folds: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """[num_pairs]: the fold of each; groups beyond the seeds take the folds in turn."""
    num_others = int(groups.max()) + 1 - len(seed_folds)
    return np.concatenate([seed_folds, np.arange(num_others) % NUM_FOLDS])[groups]


def _measure(num_seeds: int, margins: np.ndarray, rows: _TrainingRows) -> QualityFit:
    """By scores of rows that no part of the classifier had seen."""
    low, high = _bound_auc(margins, rows.is_good, rows.groups)
    by_fault = {}
    for name in np.unique(rows.faults[rows.faults != ""]):
        chosen = (rows.faults == "") | (rows.faults == name)
        by_fault[str(name)] = _compute_auc(margins[chosen], rows.is_good[chosen])
    auc = _compute_auc(margins, rows.is_good)
    return QualityFit(num_seeds, auc, low, high, by_fault, _draw_roc(margins, rows.is_good))


def _draw_roc(margins: np.ndarray, is_good: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Points of the curve at even steps of the good rows kept."""
    from sklearn.metrics import roc_curve

    false_rate, true_rate, _ = roc_curve(is_good, margins, drop_intermediate=False)
    steps = np.searchsorted(true_rate, np.linspace(0, 1, ROC_POINTS))
    return tuple((round(float(false_rate[i]), 4), round(float(true_rate[i]), 4)) for i in steps)


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


def _bound_auc(margins: np.ndarray, is_good: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the AUC, resampling seeds with all made of them."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    values = []
    for _ in range(NUM_RESAMPLES):
        drawn = rng.integers(0, len(members), len(members))
        places = np.concatenate([members[place] for place in drawn])
        values.append(_compute_auc(margins[places], is_good[places]))
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _round(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
