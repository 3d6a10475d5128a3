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
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.filters.base import Ask, Verdict
from loam_runtime.synthesis.filters.corruptions import NUM_FOLDS, Pair
from loam_runtime.synthesis.filters.execution import open_executor
from loam_runtime.synthesis.filters.quality_features import PairFeaturizer
from loam_runtime.synthesis.filters.quality_fit import QualityFit, measure_fit
from loam_runtime.synthesis.filters.quality_rows import (
    KnownRows,
    build_training_rows,
    spread_folds,
)
from loam_runtime.synthesis.filters.wrong_answers import WrongAnswers

PRIOR_GOOD = 0.65
MIN_SEEDS_TO_RANK = 8
MAX_SEEDS = 2000  # more teach little and cost time


class QualityFilter:
    """Drops rows under the threshold, where it may. It is fitted when it is first needed.

    Args:
        seeds: training rows.
        threshold: least probability of being good, 0 to 1.
        is_classification: targets are labels.
        random_seed: of the run; fixes corruptions and folds.
        wrong_answers: what it may ask the teacher for.
        known: what it learns from beside the seeds.
        database: a SQLite file in which the seeds' queries run: then it is running them that says
            what is right.
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
        database: Path | None = None,
    ) -> None:
        self._seeds = list(seeds)
        self._threshold = threshold
        self._is_classification = is_classification
        self._random_seed = random_seed
        self._wrong_answers = wrong_answers
        self._known = known or KnownRows()
        self._database = database
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
        notes = [str(asked.pop("note", "")), _explain_execution(fit)]
        note = " ".join(filter(None, notes))
        return {
            **({"note": note} if note else {}),
            **({"wrong_answers": asked} if asked else {}),
            "threshold": self._threshold,
            "advisory": fit.is_advisory,
            "seeds": fit.num_seeds,
            "auc": _round(fit.auc),
            "auc_lower_bound": _round(fit.auc_low),
            "auc_upper_bound": _round(fit.auc_high),
            "auc_by_fault": {name: _round(auc) for name, auc in fit.auc_by_fault.items()},
            **({"execution": fit.execution.describe()} if fit.execution else {}),
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
        rows = build_training_rows(
            seeds,
            seed_folds,
            rng,
            is_classification=self._is_classification,
            known=self._known,
            executor=open_executor(seeds, self._database),
        )
        folds = spread_folds(seed_folds, rows.groups)
        self._featurizer.fit(seeds, seed_folds)
        features = self._featurizer.transform(rows.pairs, folds)
        margins = np.zeros(len(rows.pairs))
        for fold in range(NUM_FOLDS):
            train, held_out = folds != fold, folds == fold
            model = _fit_classifier(features[train], rows.is_good[train])
            margins[held_out] = model.decision_function(features[held_out])
        self._model = _fit_classifier(features, rows.is_good)
        self._platt = _fit_platt(margins, rows.is_good)
        return measure_fit(len(seeds), margins, rows)


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


def _explain_execution(fit: QualityFit) -> str:
    """How far it tells what running the queries tells; "" where none was run."""
    found = fit.execution
    if found is None:
        return ""
    told = (
        f"Against execution, {found.num_right} queries of the seeds and {found.num_another} that "
        f"run and return another result: area under the ROC curve {found.auc:.2f} "
        f"({found.auc_low:.2f} to {found.auc_high:.2f})."
    )
    return f"{told} That is too little to drop rows by." if fit.misses_wrong_queries else told


def _round(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
