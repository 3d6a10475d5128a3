"""The baseline that reads nothing: always the commonest training label."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from loam_runtime.data.examples import iterate_examples
from loam_runtime.evaluation.model_evaluation import ModelEvaluation, evaluate_predictions

if TYPE_CHECKING:
    from datasets import Dataset


def majority_baseline(train: Dataset, test: Dataset) -> ModelEvaluation:
    """The commonest label of the training rows for every test row, first by name on a tie.

    For classification; other tasks have no answer that suits every input.
    """
    counts = Counter(train["target"])
    label = min(counts, key=lambda name: (-counts[name], name))
    predictions = [
        {"id": row.id, "target": row.target, "group": row.group, "label": label}
        for row in iterate_examples(test)
    ]
    return evaluate_predictions("majority", "classification", predictions)
