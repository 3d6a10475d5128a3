"""The metrics, each a function of what every row contributes. A new one: a function and a line.

A metric turns rows into contributions [num_rows, width], and their sums into a value. So one
bootstrap serves all of them, paired and by group, without scoring a row twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loam_runtime.evaluation.resampling import (
    Interval,
    bootstrap_statistic,
    compute_percentile_interval,
    compute_wilson_interval,
    has_groups,
)
from loam_runtime.evaluation.text_overlap import (
    compute_rouge_l,
    compute_token_f1,
    normalize_answer,
)

Prediction = dict[str, Any]


def combine_mean(sums: np.ndarray) -> np.ndarray:
    """Mean from (sum of values, number of rows)."""
    return sums[..., 0] / sums[..., 1]


def combine_macro_f1(sums: np.ndarray) -> np.ndarray:
    """Mean over classes of F1, from true positives, predicted and actual counts by class.

    A class that a resample lacks altogether has no F1 and is left out of that mean.
    """
    hits, predicted, actual = np.split(sums, 3, axis=-1)
    with np.errstate(invalid="ignore"):
        return np.nanmean(2 * hits / (predicted + actual), axis=-1)


@dataclass(frozen=True, slots=True)
class Metric:
    """How predictions become one number.

    Attributes:
        field: key of a prediction that this metric judges; rows without it are not measured.
        contribute: (values of `field`, targets) -> contributions [num_rows, width].
        combine: sums of contributions [..., width] -> values [...].
        is_proportion: a share of rows, whose interval Wilson's formula gives.
        higher_is_better: False for rates of failure and for losses.
    """

    field: str
    contribute: Callable[[Sequence[Any], Sequence[str]], np.ndarray]
    combine: Callable[[np.ndarray], np.ndarray] = combine_mean
    is_proportion: bool = False
    higher_is_better: bool = True


def _average(values: Sequence[float]) -> np.ndarray:
    return np.stack([np.asarray(values, dtype=float), np.ones(len(values))], axis=1)


def contribute_match(predicted: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    """1 where a label equals the target."""
    return _average([a == b for a, b in zip(predicted, targets, strict=True)])


def contribute_invalid(predicted: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    """1 where the answer is no label at all, or empty."""
    return _average([not label for label in predicted])


def contribute_f1(predicted: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    """True positives, predicted and actual counts for every class among the targets."""
    classes = np.array(sorted(set(targets)))
    is_predicted = np.array(predicted, dtype=object)[:, None] == classes
    is_actual = np.array(targets, dtype=object)[:, None] == classes
    return np.hstack([is_predicted & is_actual, is_predicted, is_actual]).astype(float)


def contribute_exact_match(predicted: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    """1 where answer and target are equal after SQuAD's normalisation."""
    pairs = zip(predicted, targets, strict=True)
    return _average([normalize_answer(a) == normalize_answer(b) for a, b in pairs])


def contribute_token_f1(predicted: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    """SQuAD's token F1 of each row."""
    pairs = zip(predicted, targets, strict=True)
    return _average([compute_token_f1(a, b) for a, b in pairs])


def contribute_rouge_l(predicted: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    """ROUGE-L F of each row."""
    pairs = zip(predicted, targets, strict=True)
    return _average([compute_rouge_l(a, b) for a, b in pairs])


def contribute_log_loss(predicted: Sequence[Sequence[float]], targets: Sequence[str]) -> np.ndarray:
    """(negative log p in nats, number of tokens) of each row, so that the mean is by token."""
    return np.array([(-log_prob, num_tokens) for log_prob, num_tokens in predicted], dtype=float)


METRICS: dict[str, Metric] = {
    "accuracy": Metric("label", contribute_match, is_proportion=True),
    "macroF1": Metric("label", contribute_f1, combine_macro_f1),
    "accuracyRaw": Metric("labelRaw", contribute_match, is_proportion=True),
    "accuracyCalibrated": Metric("labelCalibrated", contribute_match, is_proportion=True),
    "macroF1Raw": Metric("labelRaw", contribute_f1, combine_macro_f1),
    "macroF1Calibrated": Metric("labelCalibrated", contribute_f1, combine_macro_f1),
    "generationAccuracy": Metric("generatedLabel", contribute_match, is_proportion=True),
    "generationMacroF1": Metric("generatedLabel", contribute_f1, combine_macro_f1),
    "invalidRate": Metric(
        "generatedLabel", contribute_invalid, is_proportion=True, higher_is_better=False
    ),
    "exactMatch": Metric("answer", contribute_exact_match, is_proportion=True),
    "tokenF1": Metric("answer", contribute_token_f1),
    "rougeL": Metric("answer", contribute_rouge_l),
    "emptyRate": Metric("answer", contribute_invalid, is_proportion=True, higher_is_better=False),
    "logLoss": Metric("logProb", contribute_log_loss, higher_is_better=False),
}

# The metric that the verdict is about.
DECISIVE_METRICS = {
    "classification": "accuracy",
    "extraction": "tokenF1",
    "generation": "rougeL",
    "summarization": "rougeL",
    "text": "logLoss",
}


def measure(predictions: Sequence[Prediction]) -> dict[str, Interval]:
    """Every metric whose field the predictions have, with its interval.

    Args:
        predictions: rows with `target`, optionally `group`, and the fields that metrics judge.
    """
    present = predictions[0].keys() if predictions else ()
    return {
        name: _measure_one(metric, predictions)
        for name, metric in METRICS.items()
        if metric.field in present
    }


def _measure_one(metric: Metric, predictions: Sequence[Prediction]) -> Interval:
    contributions = compute_contributions(metric, predictions)
    groups = get_groups(predictions)
    sums = contributions.sum(0)
    if metric.is_proportion and not has_groups(groups):
        return compute_wilson_interval(sums[0], len(predictions))
    resampled = bootstrap_statistic(contributions, metric.combine, groups)
    return compute_percentile_interval(float(metric.combine(sums)), resampled, groups)


def compute_contributions(metric: Metric, predictions: Sequence[Prediction]) -> np.ndarray:
    """What each prediction adds to the metric's sums: [num_rows, width]."""
    judged = [prediction[metric.field] for prediction in predictions]
    return metric.contribute(judged, [prediction["target"] for prediction in predictions])


def get_groups(predictions: Sequence[Prediction]) -> list[str]:
    """The group of each row, "" where it has none."""
    return [prediction.get("group", "") for prediction in predictions]
