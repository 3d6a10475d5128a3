"""Labels by likelihood: which label's tokens does the model find most probable?

The score of a label is the sum of log p of its tokens and the terminator after the prompt. A
model may favour a label whatever the input; calibration divides by what it says of inputs
without content (Zhao et al. 2021, "Calibrate Before Use"). It helps some tasks and hurts
others, so the better of the two is chosen on rows that are not the test's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp

# Inputs without content, over which the prior is averaged.
PRIOR_INPUTS = ("", "N/A", "[MASK]")


def compute_log_prior(prior_scores: np.ndarray) -> np.ndarray:
    """Log of the mean probability of each label over content-free inputs: [num_labels].

    Args:
        prior_scores: [num_inputs, num_labels], log p of the labels.
    """
    return logsumexp(log_softmax(prior_scores, axis=-1), axis=0) - np.log(len(prior_scores))


def prefers_calibrated(
    scores: np.ndarray, log_prior: np.ndarray, targets: Sequence[str], labels: Sequence[str]
) -> bool:
    """Whether calibration names more of `targets` right; on a tie the raw scores stay.

    Args:
        scores: [num_rows, num_labels] of rows outside the test.
    """
    raw = pick_labels(scores, labels)
    calibrated = pick_labels(scores - log_prior, labels)
    return _count_equal(calibrated, targets) > _count_equal(raw, targets)


def _count_equal(predicted: Sequence[str], targets: Sequence[str]) -> int:
    return sum(a == b for a, b in zip(predicted, targets, strict=True))


def pick_labels(scores: np.ndarray, labels: Sequence[str]) -> list[str]:
    """The likeliest label of each row of [num_rows, num_labels]."""
    return [labels[index] for index in scores.argmax(-1)]


def describe_scores(
    scores: np.ndarray, log_prior: np.ndarray, is_calibrated: bool, labels: Sequence[str]
) -> list[dict[str, Any]]:
    """The fields of a prediction that come from likelihood, for [num_rows, num_labels]."""
    calibrated = scores - log_prior
    chosen = calibrated if is_calibrated else scores
    probabilities = np.exp(log_softmax(chosen, axis=-1))
    return [
        {
            "label": label,
            "labelRaw": raw,
            "labelCalibrated": adjusted,
            "probabilities": dict(zip(labels, shares.round(6).tolist(), strict=True)),
            "logProbs": dict(zip(labels, sums.round(5).tolist(), strict=True)),
        }
        for label, raw, adjusted, shares, sums in zip(
            pick_labels(chosen, labels),
            pick_labels(scores, labels),
            pick_labels(calibrated, labels),
            probabilities,
            scores,
            strict=True,
        )
    ]
