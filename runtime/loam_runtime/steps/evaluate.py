"""Measure the base model before training, the published adapter after it, and compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_runtime.data.prompt import PromptContract
from loam_runtime.evaluation.comparison import decide_verdict
from loam_runtime.evaluation.evaluate import evaluate_model
from loam_runtime.evaluation.latency import measure_latencies
from loam_runtime.evaluation.majority import majority_baseline
from loam_runtime.evaluation.model_evaluation import ModelEvaluation, evaluate_predictions
from loam_runtime.evaluation.servings import list_servings
from loam_runtime.evaluation.shots import select_shots
from loam_runtime.models.language_model import LanguageModel
from loam_runtime.models.loading import load_published, load_tokenizer
from loam_runtime.steps.predictions import TUNED, read_predictions, write_predictions
from loam_runtime.steps.rows import JobTables, build_job_contract, read_tables

if TYPE_CHECKING:
    from loam_runtime.observability.monitor import StageMonitor
    from loam_runtime.stages import StageOutput
    from loam_runtime.steps.context import JobContext


def measure_baselines(
    context: JobContext, split: Path, out: Path, monitor: StageMonitor
) -> dict[str, Any]:
    """Write `evaluation/<baseline>.jsonl` for what fine-tuning has to beat."""
    tables = read_tables(split, None)
    if tables.test is None:
        return {"models": []}
    contract = build_job_contract(context, tables)
    measured = [
        _measure_baseline(name, context, contract, tables, monitor)
        for name in context.job.spec.evaluation.baselines
        if name != "majority" or contract.labels
    ]
    for evaluation in measured:
        write_predictions(evaluation, out)
    return {"models": [evaluation.to_record() for evaluation in measured]}


def measure_adapter(
    context: JobContext,
    split: Path,
    before: StageOutput,
    trained: StageOutput,
    out: Path,
    monitor: StageMonitor,
) -> dict[str, Any]:
    """Measure the very files that will be published; write its answers and the verdict."""
    adapter = trained.folder / "adapter"
    tables = read_tables(split, None)
    contract = PromptContract.from_json((adapter / "loam_prompt.json").read_text("utf-8"))
    if tables.test is None:
        return {"models": [], "latency": [], "verdict": None}
    tuned = _load_adapter(context, adapter, trained.result["quantization"])
    after = _evaluate(TUNED, tuned, context, contract, tables, monitor)
    write_predictions(after, out)
    baselines = [_read_evaluation(before.folder, record) for record in before.result["models"]]
    verdict = decide_verdict(after, baselines, len(tables.test))
    (out / "evaluation" / "verdict.json").write_text(json.dumps(verdict.to_record(), indent=1))
    return {
        "models": [after.to_record()],
        "latency": _measure_latency(tuned, context, contract, tables, trained),
        "verdict": verdict.to_record(),
    }


def _measure_latency(
    tuned: LanguageModel,
    context: JobContext,
    contract: PromptContract,
    tables: JobTables,
    trained: StageOutput,
) -> list[dict[str, Any]]:
    """How long answers take; nothing for plain text, whose rows ask for none.

    The last use of `tuned`: see `list_servings`.
    """
    if contract.task == "text":
        return []
    is_quantized = bool(trained.result["quantization"])
    merged = None
    if is_quantized and (trained.folder / "merged").is_dir():
        merged = _load_adapter(context, trained.folder / "merged", "")
    servings = list_servings(tuned, merged, can_merge=not is_quantized)
    return [one.to_record() for one in measure_latencies(servings, tables.test, contract)]


def _measure_baseline(
    name: str,
    context: JobContext,
    contract: PromptContract,
    tables: JobTables,
    monitor: StageMonitor,
) -> ModelEvaluation:
    if name == "majority":
        return majority_baseline(tables.train, tables.test)
    evaluation = context.job.spec.evaluation
    shots = []
    if name == "inContext":
        seed = context.job.spec.training.seed
        shots = select_shots(tables.train, evaluation.in_context_shots, seed, contract.labels)
    return _evaluate(name, context.base_model, context, contract, tables, monitor, shots)


def _evaluate(
    name: str,
    model: LanguageModel,
    context: JobContext,
    contract: PromptContract,
    tables: JobTables,
    monitor: StageMonitor,
    shots: list[tuple[str, str]] | None = None,
) -> ModelEvaluation:
    return evaluate_model(
        model,
        tables.test,
        contract,
        name=name,
        max_new_tokens=context.job.spec.evaluation.max_new_tokens,
        selection=tables.validation or tables.train,
        shots=shots or [],
        monitor=monitor,
    )


def _load_adapter(context: JobContext, adapter: Path, quantization: str) -> LanguageModel:
    model = load_published(
        context.model_folder,
        adapter,
        device=context.device,
        dtype=context.dtype,
        quantization=quantization,
    )
    return LanguageModel(model, load_tokenizer(adapter))


def _read_evaluation(folder: Path, record: dict[str, Any]) -> ModelEvaluation:
    return evaluate_predictions(
        record["name"], record["task"], read_predictions(folder, record["name"])
    )
