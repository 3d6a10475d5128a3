"""Turn what is now known of model, rows and machine into the training plan."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from loam_api.planning.facts import DataFacts, Facts, ModelFacts
from loam_api.planning.plan import plan
from loam_runtime.hardware import detect_hardware
from loam_runtime.models.facts import read_model_facts
from loam_runtime.steps.rows import (
    JobTables,
    build_training_contract,
    encode_rows,
    read_tables,
)

if TYPE_CHECKING:
    from loam_runtime.observability.monitor import StageMonitor
    from loam_runtime.steps.context import JobContext


def plan_training(
    context: JobContext, split: Path, synthetic: Path | None, out: Path, monitor: StageMonitor
) -> dict[str, Any]:
    """Write `plan.json` and return it: every choice of the training, with its reason."""
    spec = context.job.spec
    facts = measure_facts(context, read_tables(split, synthetic))
    resolved = plan(facts, detect_hardware(spec.compute.device, context.num_pods), spec)
    for warning in resolved.warnings:
        monitor.log("plan_warning", warning=warning, level="warning")
    (out / "plan.json").write_text(json.dumps(resolved.to_dict(), indent=1))
    return resolved.to_dict()


def measure_facts(context: JobContext, tables: JobTables) -> Facts:
    """All that a plan stands on."""
    model = ModelFacts.from_dict(read_model_facts(context.model_folder))
    return Facts(model, measure_rows(context, tables))


def measure_rows(context: JobContext, tables: JobTables) -> DataFacts:
    """Count rows and tokens, before any row is dropped or truncated for its length."""
    contract = build_training_contract(context, tables)
    lengths, num_supervised = [], 0
    explains = context.job.spec.rationale_form == "multiTask"
    for table in (tables.train, tables.synthetic):
        for row in encode_rows(context, contract, table, max_length=0, explains=explains):
            lengths.append(len(row.input_ids))
            num_supervised += len(row.input_ids) - row.num_prompt_tokens
    is_classification = context.job.spec.data.task == "classification"
    per_class = Counter(tables.train["target"]).values() if is_classification else [0]
    return DataFacts(
        num_real_rows=len(tables.train),
        num_synthetic_rows=_count_synthetic(context, tables),
        num_validation_rows=len(tables.validation) if tables.validation else 0,
        num_test_rows=len(tables.test) if tables.test else 0,
        num_preference_rows=sum(map(bool, tables.train["rejected"])),
        min_rows_per_class=min(per_class),
        p50_tokens=int(median(lengths)),
        max_tokens=max(lengths),
        num_tokens=sum(lengths),
        num_supervised_tokens=num_supervised,
    )


def _count_synthetic(context: JobContext, tables: JobTables) -> int | None:
    """None where they are still to be written."""
    if tables.synthetic is not None:
        return len(tables.synthetic)
    return None if context.job.spec.synthesis else 0
