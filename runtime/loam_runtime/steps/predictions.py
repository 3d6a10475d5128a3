"""The answers of each model on the test rows, as files of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_runtime.data.export import read_json_lines, write_json_lines

if TYPE_CHECKING:
    from loam_runtime.evaluation.model_evaluation import ModelEvaluation

EVALUATION_FOLDER = "evaluation"
VERDICTS_FILE = f"{EVALUATION_FOLDER}/judge.jsonl"  # of the judge of answers, by the row's id
TUNED = "tuned"  # the fine-tuned model among those that are measured
NO_TEST = "There is no test set: nothing was measured."


def write_predictions(evaluation: ModelEvaluation, out: Path) -> None:
    """Write `evaluation/<model>.jsonl`, a row for each test row."""
    folder = out / EVALUATION_FOLDER
    folder.mkdir(exist_ok=True)
    write_json_lines(evaluation.predictions, folder / f"{evaluation.name}.jsonl")


def read_predictions(folder: Path, name: str) -> list[dict[str, Any]]:
    """What `write_predictions` wrote of a model."""
    return read_json_lines(folder / EVALUATION_FOLDER / f"{name}.jsonl")
