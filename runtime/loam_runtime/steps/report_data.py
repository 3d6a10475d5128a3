"""From what the steps left to what the report shows: plain values in, plain values out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from loam_runtime.report.data import (
    ClassCount,
    Confusion,
    DataPart,
    Evaluation,
    JudgePart,
    Prediction,
    ReportData,
    Sample,
    SpotCheckPart,
    SynthesisPart,
)
from loam_runtime.steps.funnel import (
    describe_funnel,
    describe_measures,
    describe_rationales,
    describe_trust,
)
from loam_runtime.steps.report_quality import describe_quality
from loam_runtime.steps.report_seeds import describe_design

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJob

MODEL_NAMES = {
    "tuned": "Fine-tuned",
    "inContext": "In-context",
    "zeroShot": "Zero-shot",
    "majority": "Majority class",
}
# Which field of a prediction is the answer that the decisive metric judges.
_ANSWER_FIELDS = ("label", "answer", "generatedText")
_NO_LABEL = "(no label)"
_USAGE_NAMES = {
    "spent_requests": "teacher requests",
    "spent_tokens": "teacher tokens",
    "judge_requests": "answers of the judge, in the last start",
    "reused": "answers used again, without a request",
    "retries": "requests tried again",
    "rate_limited": "requests refused for their rate",
    "given_up": "requests given up",
}
NUM_SAMPLES = 8
NUM_PREDICTIONS = 40


@dataclass(frozen=True, slots=True)
class Outputs:
    """Results of the steps, and the rows of which samples are shown.

    Attributes:
        split, synthesis, plan, baselines, training, evaluation: the steps' recorded results.
        inputs: text of each test row by id.
        predictions: answers by model name ("tuned", "zeroShot", ...).
        kept, rejected, bad_rows: rows of the synthesis, and of the user's files.
        spot_check: what a person was shown and said.
        judge, judge_usage: what the judge of answers said, and what it was asked for.
    """

    split: dict[str, Any]
    synthesis: dict[str, Any] | None
    plan: dict[str, Any]
    baselines: dict[str, Any]
    training: dict[str, Any]
    evaluation: dict[str, Any]
    inputs: dict[str, str]
    predictions: dict[str, list[dict[str, Any]]]
    kept: list[Sample]
    rejected: list[dict[str, Any]]
    bad_rows: list[dict[str, Any]]
    spot_check: SpotCheckPart | None = None
    judge: JudgePart | None = None
    judge_usage: dict[str, float] = field(default_factory=dict)


def build_report_data(
    job: FineTuneJob,
    run_key: str,
    outputs: Outputs,
    seconds: dict[str, float],
    lineage: dict[str, str],
) -> ReportData:
    """Everything on the report's page."""
    training = outputs.training["training"]
    return ReportData(
        job=job.metadata.name,
        task=job.spec.data.task,
        model=job.spec.model.uri,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        run_key=run_key,
        verdict=_describe_verdict(outputs.evaluation["verdict"]),
        evaluation=_describe_evaluation(job, outputs),
        judge=outputs.judge,
        training={
            "method": outputs.plan["method"],
            **{name: training[name] for name in _TRAINING_FIELDS},
        },
        data=describe_data(outputs),
        synthesis=_describe_synthesis(job, outputs),
        stages=[{"name": name, "seconds": value} for name, value in seconds.items()],
        usage=describe_usage(job, outputs),
        plan=[
            {"setting": reason["field"], "value": str(reason["value"]), "reason": reason["why"]}
            for reason in outputs.plan["reasons"]
        ],
        warnings=list(outputs.plan["warnings"]),
        lineage=[{"name": name, "value": value} for name, value in lineage.items()],
    )


_TRAINING_FIELDS = (
    "losses",
    "validation",
    "steps",
    "best_step",
    "stopped_early",
    "num_trainable_parameters",
    "num_parameters",
    "num_supervised_tokens",
    "tokens_per_second",
    "peak_memory_bytes",
)


def _describe_verdict(verdict: dict[str, Any] | None) -> Any:
    if verdict is None:
        return None
    difference = verdict["difference"]
    return {
        "text": verdict["text"],
        "is_assessable": verdict["is_assessable"],
        "wins": verdict["wins"],
        "best_baseline": MODEL_NAMES.get(verdict["best_baseline"], verdict["best_baseline"]),
        "difference": {name: difference[name] for name in ("value", "low", "high")}
        if difference
        else None,
    }


def _describe_evaluation(job: FineTuneJob, outputs: Outputs) -> Evaluation | None:
    records = [*outputs.evaluation["models"], *outputs.baselines["models"]]
    if not outputs.evaluation["models"]:
        return None
    difference = outputs.evaluation["verdict"]["difference"]
    primary = difference["metric"] if difference else next(iter(records[0]["metrics"]))
    best = outputs.evaluation["verdict"]["best_baseline"]
    return {
        "num_test_rows": records[0]["numRows"],
        "primary_metric": primary,
        "models": [
            {
                "name": MODEL_NAMES.get(record["name"], record["name"]),
                "is_fine_tuned": record["name"] == "tuned",
                "metrics": {
                    name: {key: interval[key] for key in ("value", "low", "high")}
                    for name, interval in record["metrics"].items()
                },
            }
            for record in records
        ],
        "confusion": _count_confusion(outputs) if job.spec.data.task == "classification" else None,
        # Plain text is scored as a whole: it has no answer that could be right or wrong.
        "predictions": [] if job.spec.data.task == "text" else _sample_predictions(outputs, best),
        "latency": outputs.evaluation["latency"],
    }


def get_answer(prediction: dict[str, Any]) -> str:
    """What the model answered, as the decisive metric reads it."""
    return next((str(prediction[name]) for name in _ANSWER_FIELDS if name in prediction), "")


def _count_confusion(outputs: Outputs) -> Confusion:
    pairs = Counter(
        (row["target"], get_answer(row) or _NO_LABEL) for row in outputs.predictions["tuned"]
    )
    labels = sorted({target for target, _ in pairs})
    predicted = sorted({*labels, *(answer for _, answer in pairs)} - {_NO_LABEL})
    if any(answer == _NO_LABEL for _, answer in pairs):
        predicted.append(_NO_LABEL)
    counts = [[pairs[target, answer] for answer in predicted] for target in labels]
    return {"labels": labels, "predicted": predicted, "counts": counts}


def _sample_predictions(outputs: Outputs, best_baseline: str) -> list[Prediction]:
    """A sample of the test rows, wrong ones first."""
    base = {row["id"]: get_answer(row) for row in outputs.predictions.get(best_baseline, [])}
    rows: list[Prediction] = [
        {
            "input": outputs.inputs[row["id"]],
            "target": row["target"],
            "prediction": get_answer(row),
            "base_prediction": base.get(row["id"], ""),
            "is_right": get_answer(row) == row["target"],
        }
        for row in outputs.predictions["tuned"]
    ]
    wrong = [row for row in rows if not row["is_right"]][: NUM_PREDICTIONS // 2]
    right = [row for row in rows if row["is_right"]]
    return [*wrong, *right[: NUM_PREDICTIONS - len(wrong)]]


def describe_data(outputs: Outputs) -> DataPart:
    """The user's rows, and what became of them."""
    read, rows = outputs.split["read"], outputs.split["rows"]
    bad_rows = [
        {"file": row["file"], "row": row["row"], "reason": row["reason"]}
        for row in outputs.bad_rows
    ]
    return {
        "num_seed_rows": read["seeds"]["rows"],
        "num_train_rows": rows["train"],
        "num_validation_rows": rows["validation"],
        "num_test_rows": rows["test"],
        "num_duplicates": sum(part["duplicates"] for part in read.values()),
        "num_conflicts": sum(part["conflicts"] for part in read.values()),
        "bad_rows": bad_rows[:NUM_SAMPLES],
        "num_bad_rows": len(bad_rows),
        "notes": [*outputs.split["notes"], *_describe_too_long(outputs)],
    }


def _describe_too_long(outputs: Outputs) -> list[str]:
    """A sentence on rows that were not trained on as they are; none where there are none."""
    counts = outputs.training["numRows"]
    if not counts["dropped"] + counts["truncated"]:
        return []
    return [
        f"For their length, {counts['dropped']} rows for training or validation were left out and "
        f"{counts['truncated']} were shortened (training.maxSequenceLength, training.onTooLong)."
    ]


def _describe_synthesis(job: FineTuneJob, outputs: Outputs) -> SynthesisPart | None:
    spec = job.spec.synthesis
    if spec is None or outputs.synthesis is None:
        return None
    report = outputs.synthesis["report"]
    teacher = spec.teacher.openai.model if spec.teacher.openai else "the base model itself"
    rejected: list[Sample] = [
        {"input": row["input"], "target": row["target"], "reason": row["reason"]}
        for row in outputs.rejected
    ]
    return {
        "strategy": spec.strategy,
        "teacher": teacher,
        "num_requested": spec.target_count,
        "num_generated": report["rows"] + report["malformed"],
        "num_kept": len(outputs.kept),
        "rejected": dict(Counter(row["reason"] for row in rejected).most_common()),
        "per_class": _count_classes(job, outputs),
        **describe_design(report),
        "funnel": describe_funnel(report, outputs.rejected),
        "measures": describe_measures(report["measures"]),
        "filter_note": describe_trust(report["filters"]),
        "rationale_note": describe_rationales(report),
        "kept_samples": outputs.kept[:NUM_SAMPLES],
        "rejected_samples": rejected[:NUM_SAMPLES],
        "quality": describe_quality(report["filters"].get("quality", {})),
        "spot_check": outputs.spot_check,
    }


def _count_classes(job: FineTuneJob, outputs: Outputs) -> list[ClassCount]:
    if job.spec.data.task != "classification":
        return []
    kept = Counter(row["target"] for row in outputs.kept)
    rejected = Counter(row["target"] for row in outputs.rejected)
    return [
        {"label": label, "generated": kept[label] + rejected[label], "kept": kept[label]}
        for label in outputs.split["labels"]
    ]


def _describe_cost(job: FineTuneJob, outputs: Outputs) -> dict[str, str]:
    """What the teacher's rows cost beside what people would have been paid for them."""
    spec = job.spec.synthesis
    cost = outputs.synthesis["usage"].get("spent_cost") if outputs.synthesis else None
    if cost is None:
        return {}
    facts = {"teacher cost": f"{cost:.4f}"}
    kept = outputs.synthesis["report"]["kept"]
    if kept:
        facts["teacher cost of a kept row"] = f"{cost / kept:.6f}"
    if kept and spec.annotation_price:
        human = spec.annotation_price * kept
        facts["the same rows by people"] = f"{human:.2f} at {spec.annotation_price:g} each"
        facts["teacher's share of that"] = f"{cost / human:.2%}"
    return facts


def _describe_judge_usage(usage: dict[str, float]) -> dict[str, str | float]:
    """What the judge of answers was asked for, over all starts of the run."""
    if not usage:
        return {}
    facts: dict[str, str | float] = {
        "requests to the judge of answers": usage["spent_requests"],
        "tokens of the judge of answers": usage["spent_tokens"],
    }
    if "spent_cost" in usage:
        facts["cost of the judge of answers"] = f"{usage['spent_cost']:.4f}"
    return facts


def describe_usage(job: FineTuneJob, outputs: Outputs) -> list[Any]:
    """What the run has used, in requests, money, seconds and tokens, as the report shows it."""
    usage = outputs.synthesis["usage"] if outputs.synthesis else {}
    training = outputs.training["training"]
    facts = {name: usage[key] for key, name in _USAGE_NAMES.items() if usage.get(key)}
    facts |= _describe_cost(job, outputs)
    facts |= _describe_judge_usage(outputs.judge_usage)
    facts["training seconds"] = round(training["train_seconds"], 1)
    facts["training tokens"] = training["num_tokens"]
    return [{"name": name, "value": str(value)} for name, value in facts.items()]
