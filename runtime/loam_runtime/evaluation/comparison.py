"""Was fine-tuning worth it? Paired differences, and the verdict in words that are true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from loam_runtime.evaluation.metrics import (
    DECISIVE_METRICS,
    METRICS,
    compute_contributions,
    get_groups,
)
from loam_runtime.evaluation.model_evaluation import ModelEvaluation
from loam_runtime.evaluation.resampling import (
    bootstrap_statistic,
    compute_percentile_interval,
    has_groups,
)

MIN_ROWS_FOR_VERDICT = 50
_LABELS_IN_WORDS = {
    "accuracy": "accuracy",
    "tokenF1": "token F1",
    "rougeL": "ROUGE-L",
    "logLoss": "loss per token",
}
BASELINES_IN_WORDS = {
    "majority": "the majority class",
    "zeroShot": "the base model without examples",
    "inContext": "the base model with examples in its prompt",
}


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """One model minus another on the same rows.

    Attributes:
        value: difference of the metric; low and high, its 95 % interval.
        p_value: two-sided; exact McNemar for proportions of independent rows, else by bootstrap.
        is_better: True or False where the interval leaves no doubt, None where it holds 0.
    """

    metric: str
    value: float
    low: float
    high: float
    p_value: float
    method: str
    is_better: bool | None
    num_rows: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether fine-tuning beat the best of the baselines.

    Attributes:
        text: in one to three sentences.
        is_assessable: there were rows and baselines enough to ask.
        wins: True or False where the rows decide, None where they do not.
        best_baseline: name of the strongest baseline on the decisive metric, "" without any.
        difference: tuned minus best baseline, None where not assessable.
    """

    text: str
    is_assessable: bool
    wins: bool | None
    best_baseline: str
    difference: PairedDifference | None

    def to_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def compare(after: ModelEvaluation, before: ModelEvaluation, metric: str = "") -> PairedDifference:
    """`after` minus `before` on the rows that both answered.

    Args:
        metric: a name in `METRICS`; by default the one that decides for the task.

    Raises:
        ValueError: the two were not measured on the same rows.
    """
    if [row["id"] for row in after.predictions] != [row["id"] for row in before.predictions]:
        raise ValueError(f"{after.name} and {before.name} were measured on different rows")
    name = metric or DECISIVE_METRICS[after.task]
    kind = METRICS[name]
    groups = get_groups(after.predictions)
    sides = [compute_contributions(kind, side.predictions) for side in (after, before)]
    width = sides[0].shape[1]

    def subtract(sums: np.ndarray) -> np.ndarray:
        return kind.combine(sums[..., :width]) - kind.combine(sums[..., width:])

    both = np.hstack(sides)
    resampled = bootstrap_statistic(both, subtract, groups)
    interval = compute_percentile_interval(float(subtract(both.sum(0))), resampled, groups)
    if kind.is_proportion and not has_groups(groups):
        p_value, method = _compute_mcnemar(sides[0][:, 0], sides[1][:, 0]), "mcnemar"
    else:
        p_value, method = _compute_bootstrap_p(resampled), interval.method
    is_better = None
    if interval.low > 0 or interval.high < 0:
        is_better = (interval.value > 0) == kind.higher_is_better
    return PairedDifference(
        metric=name,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        p_value=p_value,
        method=method,
        is_better=is_better,
        num_rows=len(after.predictions),
    )


def _compute_mcnemar(after: np.ndarray, before: np.ndarray) -> float:
    """Exact two-sided p of the rows on which two classifiers differ."""
    from scipy.stats import binomtest

    gained, lost = int((after > before).sum()), int((after < before).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def _compute_bootstrap_p(resampled: np.ndarray) -> float:
    """Two-sided share of resamples on the other side of 0, never 0 itself."""
    least = min((resampled <= 0).sum(), (resampled >= 0).sum())
    return float(min(1.0, 2 * (least + 1) / (len(resampled) + 1)))


def decide_verdict(
    tuned: ModelEvaluation, baselines: Sequence[ModelEvaluation], test_size: int
) -> Verdict:
    """Compare the tuned model with the best baseline, and say what the rows allow to say.

    Args:
        baselines: majority, zero-shot and in-context, as far as the job asked for them.
        test_size: rows of the held-out test; under 50 nothing is claimed.
    """
    metric = DECISIVE_METRICS[tuned.task]
    measured = [one for one in baselines if metric in one.metrics]
    if test_size < MIN_ROWS_FOR_VERDICT or not measured:
        return Verdict(_say_why_not(test_size), False, None, "", None)
    sign = 1 if METRICS[metric].higher_is_better else -1
    best = max(measured, key=lambda one: sign * one.metrics[metric].value)
    difference = compare(tuned, best, metric)
    text = _say_verdict(tuned, best, difference)
    return Verdict(text, True, difference.is_better, best.name, difference)


def _say_why_not(test_size: int) -> str:
    if test_size < MIN_ROWS_FOR_VERDICT:
        return (
            f"Not assessable: {test_size} held-out rows are too few to tell models apart; "
            f"{MIN_ROWS_FOR_VERDICT} or more are needed."
        )
    return "Not assessable: no baseline was measured."


def _say_verdict(
    tuned: ModelEvaluation, best: ModelEvaluation, difference: PairedDifference
) -> str:
    name = _LABELS_IN_WORDS[difference.metric]
    baseline = BASELINES_IN_WORDS.get(best.name, best.name)
    claim = {
        True: f"Fine-tuning beats the best baseline, {baseline}",
        False: f"Fine-tuning loses to the best baseline, {baseline}",
        None: f"It cannot be told whether fine-tuning beats the best baseline, {baseline}",
    }[difference.is_better]
    figures = (
        f"{name} {tuned.metrics[difference.metric].value:.3f} against "
        f"{best.metrics[difference.metric].value:.3f} on {difference.num_rows} held-out rows, "
        f"difference {difference.value:+.3f} "
        f"(95 % interval {difference.low:+.3f} to {difference.high:+.3f})"
    )
    return f"{claim}: {figures}.{_say_advice(difference, best)}"


def _say_advice(difference: PairedDifference, best: ModelEvaluation) -> str:
    if difference.is_better:
        return ""
    if best.name == "majority":
        return " Neither is shown to have learnt the task: look at the rows and their labels."
    if difference.is_better is False:
        return " Prompting the base model is the better choice here."
    return " Prompting the base model may do as well; more test rows would narrow the interval."
