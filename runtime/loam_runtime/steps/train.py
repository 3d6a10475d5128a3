"""Encode the rows, train under Ray, and export what came out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_runtime.errors import InputError
from loam_runtime.steps.export import choose_quantization, describe_base, export_model
from loam_runtime.steps.lineage import record_lineage
from loam_runtime.steps.rows import (
    JobTables,
    build_training_contract,
    encode_rows,
    read_tables,
)
from loam_runtime.steps.training_events import TrainingEvents
from loam_runtime.storage.registry import resolve_uri
from loam_runtime.training.config import TrainConfig
from loam_runtime.training.ray_adapter import fit
from loam_runtime.training.rows import write_encoded
from loam_runtime.training.run_address import RunAddress
from loam_runtime.training.shared_inputs import ModelSource

if TYPE_CHECKING:
    from datasets import Dataset

    from loam_runtime.data.prompt import PromptContract
    from loam_runtime.data.template import EncodedExample
    from loam_runtime.observability.monitor import StageMonitor
    from loam_runtime.steps.context import JobContext


def train_adapter(
    context: JobContext,
    split: Path,
    synthetic: Path | None,
    plan: dict[str, Any],
    out: Path,
    monitor: StageMonitor,
) -> dict[str, Any]:
    """Write `training/result.json` and what `export_model` writes; return what was measured."""
    tables = read_tables(split, synthetic)
    contract = build_training_contract(context, tables)
    counts = _write_rows(context, contract, tables, plan["max_sequence_length"])
    _tell_too_long(counts, plan["max_sequence_length"], monitor)
    config = build_train_config(context, plan)
    result = fit(
        config,
        context.model_folder,
        _locate_rows(context, "train"),
        _locate_rows(context, "validation") if counts["validation"] else None,
        model=ModelSource(
            resolve_uri(context.job.spec.model.uri, context.base_dir),
            context.job.spec.model.revision,
        ),
        run=RunAddress(context.output_uri, context.run_key, context.run.token),
        work_dir=context.work_dir / "training",
        output_dir=context.work_dir / "trained",
        on_event=TrainingEvents(monitor),
    )
    verification = export_model(
        context, contract, config.method, Path(result.adapter_dir), out, monitor
    )
    quantization = choose_quantization(config.method)
    training = out / "training"
    training.mkdir()
    (training / "result.json").write_text(json.dumps(result.to_dict()))
    return {
        "training": result.to_dict(),
        "config": config.to_dict(),
        "verification": verification,
        "numRows": counts,
        "quantization": quantization,
        "lineage": record_lineage(describe_base(context, quantization), context.sources.digests),
    }


def _write_rows(
    context: JobContext, contract: PromptContract, tables: JobTables, max_length: int
) -> dict[str, int]:
    """Write the encoded rows where the workers read them.

    Returns:
        How many there are: "train" and its parts "real" and "synthetic", and "validation"; and of
        all of them how many were "dropped" or "truncated" for their length.

    Raises:
        InputError: no row is short enough, or none has the rationale that is asked for.
    """
    form = context.job.spec.rationale_form
    if form != "none" and not tables.has_rationales:
        raise InputError(
            "training.rationale asks for rationales, and no training row has one.",
            remedy="Name their column in data.fields.rationale, use synthesis.strategy "
            "rationale, or set training.rationale to none.",
        )
    explains = form == "multiTask"
    real = _encode_part(context, contract, tables.train, max_length, explains=explains)
    synthetic = _encode_part(context, contract, tables.synthetic, max_length, explains=explains)
    validation = _encode_part(context, contract, tables.validation, max_length)
    if not real.num_kept + synthetic.num_kept:
        raise InputError(
            f"No training row has at most {max_length} tokens.",
            remedy="Raise training.maxSequenceLength, or set training.onTooLong to truncate.",
        )
    write_encoded(chain(real.rows, synthetic.rows), _locate_rows(context, "train"))
    write_encoded(validation.rows, _locate_rows(context, "validation"))
    parts = (real, synthetic, validation)
    return {
        "train": real.num_kept + synthetic.num_kept,
        "real": real.num_kept,
        "synthetic": synthetic.num_kept,
        "validation": validation.num_kept,
        "dropped": sum(part.num_dropped for part in parts),
        "truncated": sum(part.num_truncated for part in parts),
    }


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A table in tokens, rationales of their own among its rows, and what its length cost it."""

    rows: list[EncodedExample]
    num_kept: int
    num_dropped: int
    num_truncated: int


def _encode_part(
    context: JobContext,
    contract: PromptContract,
    table: Dataset | None,
    max_length: int,
    *,
    explains: bool = False,
) -> _Encoded:
    rows = list(encode_rows(context, contract, table, max_length, explains=explains))
    num_kept = sum(not row.is_rationale for row in rows)
    num_dropped = (len(table) if table is not None else 0) - num_kept
    num_too_long = 0
    if context.job.spec.training.on_too_long == "truncate":  # a cut row does not show its length
        whole = encode_rows(context, contract, table, max_length=0)
        num_too_long = sum(len(row.input_ids) > max_length for row in whole)
    return _Encoded(rows, num_kept, num_dropped, max(0, num_too_long - num_dropped))


def _tell_too_long(counts: dict[str, int], max_length: int, monitor: StageMonitor) -> None:
    if counts["dropped"] or counts["truncated"]:
        cost = {name: counts[name] for name in ("dropped", "truncated")}
        monitor.log("rows_too_long", level="warning", max_tokens=max_length, **cost)


def _locate_rows(context: JobContext, side: str) -> Path:
    folder = context.work_dir / "rows"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{side}.arrow"


def build_train_config(context: JobContext, plan: dict[str, Any]) -> TrainConfig:
    """The plan as the training loop takes it."""
    training = context.job.spec.training
    lora = {}
    if plan["method"] != "full":
        lora = {
            "rank": plan["rank"],
            "alpha": plan["alpha"],
            "dropout": plan["dropout"],
            "target_modules": tuple(plan["target_modules"]),
        }
    return TrainConfig(
        method=plan["method"],
        learning_rate=plan["learning_rate"],
        max_steps=plan["num_steps"],
        global_batch=plan["global_batch"],
        micro_batch=max(1, plan["micro_batch"] // context.micro_batch_divisor),
        warmup=plan["warmup"],
        rationale_weight=training.rationale_weight,
        sharding=plan["sharding"],
        precision=context.precision,
        seed=training.seed,
        early_stopping_patience=plan["early_stopping_patience"],
        eval_every_steps=plan["eval_every_steps"],
        checkpoint_every_seconds=training.checkpoint.every_seconds,
        keep_last=training.checkpoint.keep_last,
        device=context.device,
        num_workers=plan["num_workers"],
        min_workers=context.job.spec.compute.workers.min,
        **lora,
    )
