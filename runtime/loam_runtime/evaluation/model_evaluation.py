"""What was measured of one model on the test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loam_runtime.evaluation.metrics import Prediction, measure
from loam_runtime.evaluation.resampling import Interval


@dataclass(frozen=True, slots=True)
class ModelEvaluation:
    """One model's answers and figures.

    Attributes:
        name: "tuned", "majority", "zeroShot", "inContext", or any other.
        task: the job's task, which decides the decisive metric.
        metrics: by name in `METRICS`.
        predictions: one per test row, in order: id, target, group; for labels `label` (by
            likelihood), `labelRaw`, `labelCalibrated`, `probabilities`, `logProbs`,
            `generatedText`, `generatedLabel`; for other tasks `answer`; for plain text `logProb`.
        calibration: "raw" or "calibrated", whichever `label` uses; "" without labels.
        num_shots: examples shown in the prompt.
        num_too_long: rows that did not fit the model's context and count as failures.
        seconds: wall time of the measurement.
    """

    name: str
    task: str
    metrics: dict[str, Interval]
    predictions: list[Prediction]
    calibration: str = ""
    num_shots: int = 0
    num_too_long: int = 0
    seconds: float = 0.0

    def to_record(self) -> dict[str, Any]:
        """Plain values for JSON, without the predictions, which have a file of their own."""
        return {
            "name": self.name,
            "task": self.task,
            "metrics": {name: asdict(interval) for name, interval in self.metrics.items()},
            "calibration": self.calibration,
            "numRows": len(self.predictions),
            "numShots": self.num_shots,
            "numTooLong": self.num_too_long,
            "seconds": round(self.seconds, 3),
        }


def evaluate_predictions(
    name: str, task: str, predictions: Sequence[Prediction], **details: Any
) -> ModelEvaluation:
    """The evaluation of answers that are there already."""
    return ModelEvaluation(name, task, measure(predictions), list(predictions), **details)
