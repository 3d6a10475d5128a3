"""How well the quality classifier tells good rows from bad ones, on rows that it had not seen."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from loam_runtime.synthesis.filters.execution import ANOTHER_RESULT, DOES_NOT_RUN, SAME_RESULT
from loam_runtime.synthesis.filters.quality_rows import TrainingRows

MIN_SEEDS_TO_DROP = 50
MIN_AUC_LOWER_BOUND = 0.7
NUM_RESAMPLES = 400
ROC_POINTS = 21


@dataclass(frozen=True, slots=True)
class ExecutionFit:
    """How the classifier did where running the queries says what is right.

    Attributes:
        num_right: seeds whose query runs and returns rows.
        num_another: bad rows whose query runs and returns another result than the seed's.
        num_failing: bad rows whose query does not run; the filter `structured` drops such rows.
        auc: area under the ROC curve of the first against the second.
        auc_low, auc_high: 95 % interval, bootstrap over seeds.
    """

    num_right: int
    num_another: int
    num_failing: int
    auc: float
    auc_low: float
    auc_high: float

    def describe(self) -> dict[str, object]:
        """The figures, for the report."""
        return {
            "right": self.num_right,
            "another_result": self.num_another,
            "do_not_run": self.num_failing,
            "auc": round(self.auc, 4),
            "auc_lower_bound": round(self.auc_low, 4),
            "auc_upper_bound": round(self.auc_high, 4),
        }


@dataclass(frozen=True, slots=True)
class QualityFit:
    """How the classifier did on seeds it had not seen.

    Attributes:
        num_seeds: it learned from.
        auc: area under the ROC curve over out-of-fold scores; NaN where it was not fitted.
        auc_low, auc_high: 95 % interval, bootstrap over seeds.
        auc_by_fault: seeds against one kind of corruption each.
        roc: points (share of bad rows kept, share of good rows kept), from the highest threshold.
        execution: where the job's database says what is right.
    """

    num_seeds: int
    auc: float = np.nan
    auc_low: float = np.nan
    auc_high: float = np.nan
    auc_by_fault: dict[str, float] = field(default_factory=dict)
    roc: tuple[tuple[float, float], ...] = ()
    execution: ExecutionFit | None = None

    @property
    def is_advisory(self) -> bool:
        """Too few seeds, or not good enough, to drop anything."""
        return (
            self.num_seeds < MIN_SEEDS_TO_DROP
            or not self.auc_low >= MIN_AUC_LOWER_BOUND
            or self.misses_wrong_queries
        )

    @property
    def misses_wrong_queries(self) -> bool:
        """It does not surely tell a query that runs and returns another result from a right one."""
        return self.execution is not None and not self.execution.auc_low >= MIN_AUC_LOWER_BOUND


def measure_fit(num_seeds: int, margins: np.ndarray, rows: TrainingRows) -> QualityFit:
    """By scores of rows that no part of the classifier had seen.

    Args:
        margins: [num_pairs], the greater the better a row is thought to be.
    """
    by_fault = {}
    for name in np.unique(rows.faults[rows.faults != ""]):
        chosen = (rows.faults == "") | (rows.faults == name)
        by_fault[str(name)] = compute_auc(margins[chosen], rows.is_good[chosen])
    return QualityFit(
        num_seeds,
        compute_auc(margins, rows.is_good),
        *_bound_auc(margins, rows.is_good, rows.groups),
        by_fault,
        _draw_roc(margins, rows.is_good),
        _measure_execution(margins, rows),
    )


def _measure_execution(margins: np.ndarray, rows: TrainingRows) -> ExecutionFit | None:
    """None where no query was run, or none returned another result."""
    counts = {name: int((rows.outcomes == name).sum()) for name in np.unique(rows.outcomes)}
    if not (counts.get(SAME_RESULT) and counts.get(ANOTHER_RESULT)):
        return None
    chosen = (rows.outcomes == SAME_RESULT) | (rows.outcomes == ANOTHER_RESULT)
    decided = margins[chosen], rows.is_good[chosen]
    return ExecutionFit(
        counts[SAME_RESULT],
        counts[ANOTHER_RESULT],
        counts.get(DOES_NOT_RUN, 0),
        compute_auc(*decided),
        *_bound_auc(*decided, rows.groups[chosen]),
    )


def _draw_roc(margins: np.ndarray, is_good: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Points of the curve at even steps of the good rows kept."""
    from sklearn.metrics import roc_curve

    false_rate, true_rate, _ = roc_curve(is_good, margins, drop_intermediate=False)
    steps = np.searchsorted(true_rate, np.linspace(0, 1, ROC_POINTS))
    return tuple((round(float(false_rate[i]), 4), round(float(true_rate[i]), 4)) for i in steps)


def compute_auc(margins: np.ndarray, is_good: np.ndarray) -> float:
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
        values.append(compute_auc(margins[places], is_good[places]))
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
