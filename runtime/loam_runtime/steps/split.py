"""Read the seeds and set the test aside, before anything is generated from them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_runtime.data.loading import LoadedRows, load_examples
from loam_runtime.data.splits import Splits, split_examples
from loam_runtime.data.tables import write_table

if TYPE_CHECKING:
    from loam_api.finetunejob import DataSpec, FineTuneJobSpec
    from loam_runtime.observability.monitor import StageMonitor
    from loam_runtime.steps.context import JobContext


def load_splits(
    spec: FineTuneJobSpec, data: Mapping[str, Path]
) -> tuple[dict[str, LoadedRows], Splits]:
    """Read the files by role and set the test and the validation rows aside."""
    loaded = {
        role: load_examples([path], spec.data, file_format=_get_file_format(spec.data, role))
        for role, path in data.items()
    }
    splits = split_examples(
        loaded["seeds"].dataset,
        loaded["test"].dataset if "test" in loaded else None,
        spec.data,
        spec.training.seed,
        validation=loaded["validation"].dataset if "validation" in loaded else None,
    )
    return loaded, splits


def split_data(context: JobContext, out: Path, monitor: StageMonitor) -> dict[str, Any]:
    """Write `data/{train,validation,test}.parquet` and say what was read and what was not."""
    loaded, splits = load_splits(context.job.spec, context.sources.data)
    sides = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    for side, table in sides.items():
        if table is not None:
            write_table(table, out / "data" / f"{side}.parquet")
            monitor.count("rows", len(table), outcome="kept")
    record = splits.to_record()
    (out / "data" / "split.json").write_text(json.dumps(record, indent=1))
    _write_bad_rows(loaded, out / "rejected" / "seeds.jsonl")
    return {
        "rows": {side: len(table) if table is not None else 0 for side, table in sides.items()},
        "labels": _count_labels(context, splits.train),
        "notes": list(splits.notes),
        "read": {role: _describe_loaded(rows) for role, rows in loaded.items()},
    }


def _get_file_format(data: DataSpec, role: str) -> str:
    return data.test.file_format if role == "test" and data.test else data.seeds.file_format


def _count_labels(context: JobContext, train: Any) -> dict[str, int]:
    if context.job.spec.data.task != "classification":
        return {}
    return dict(sorted(Counter(train["target"]).items()))


def _describe_loaded(rows: LoadedRows) -> dict[str, Any]:
    return {
        "rows": len(rows.dataset),
        "rowFormat": rows.row_format,
        "badRows": len(rows.bad_rows),
        "duplicates": rows.num_duplicates,
        "conflicts": rows.num_conflicts,
    }


def _write_bad_rows(loaded: dict[str, LoadedRows], path: Path) -> None:
    bad = [row for rows in loaded.values() for row in rows.bad_rows]
    if not bad:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"file": r.file, "row": r.row, "reason": r.reason}) for r in bad]
    path.write_text("\n".join(lines) + "\n")
