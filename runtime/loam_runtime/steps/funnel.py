"""What filters and measures say of the synthetic rows, for the report and the data card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loam_runtime.report.data import FunnelRow, Measure, Sample

NUM_SAMPLES = 3
_ABSENT = "not measured"


def describe_funnel(
    report: Mapping[str, Any], rejected: Sequence[Mapping[str, Any]]
) -> list[FunnelRow]:
    """Every filter with its counts and the first rows that it dropped.

    Args:
        report: of the synthesis stage.
        rejected: its records of rows that were not used.
    """
    by_filter: dict[str, list[Sample]] = {}
    for row in rejected:
        samples = by_filter.setdefault(row["filter"], [])
        if len(samples) < NUM_SAMPLES:
            samples.append({name: row[name] for name in ("input", "target", "reason")})
    written = report["rows"] + report["malformed"]
    steps = {
        "malformed": {"seen": written, "passed": report["rows"]},
        **report["filters"],
    }
    return [
        {
            "name": name,
            "seen": step["seen"],
            "passed": step["passed"],
            "rejected_samples": by_filter.get(name, []),
        }
        for name, step in steps.items()
    ]


def describe_trust(filters: Mapping[str, Mapping[str, Any]]) -> str:
    """What the filters say of how far they can be relied on, in sentences."""
    return " ".join(part["note"] for part in filters.values() if part.get("note"))


def describe_rationales(report: Mapping[str, Any]) -> str:
    """Where the training rows' rationales are from, in sentences; "" where none was asked for."""
    explained = report.get("explained")
    if not explained:
        return ""
    twice = f" ({explained['repairs']} of them asked about twice)"
    note = (
        f"Rationales were written for {explained['answered']} of the {explained['rows']} training "
        f"rows that had an input and no rationale{twice if explained['repairs'] else ''}, after "
        "the rows' own answers; prompts and what was written for them took "
        f"{explained['tokens']:,} tokens."
    )
    if explained["faults"]:
        reasons = "; ".join(f"{it} ({count})" for it, count in explained["faults"].items())
        note += f" The others have none, by the last fault of each: {reasons}."
    return f"{note} {explained['stopped']}".strip()


def describe_measures(measures: Mapping[str, Any]) -> list[Measure]:
    """The measures of the rows in words, the seeds' own beside them."""
    each = f"({measures['sample']} rows each)"
    distinct, novelty = measures["distinct"], measures["novelty"]
    pairs = [
        (f"Distinct {n}-grams {each}", distinct["synthetic"][n - 1], distinct["seeds"][n - 1])
        for n in (1, 2, 3)
    ]
    sides = ((f"Self-BLEU {each}", "self_bleu"), ("Dispersion", "dispersion"))
    for name, key in (*sides, ("Agreement of a classifier of the seeds", "agreement")):
        if measures[key]:
            pairs.append((name, measures[key]["synthetic"], measures[key]["seeds"]))
    described: list[Measure] = [
        {"name": name, "synthetic": _show(value), "seeds": _show(own)} for name, value, own in pairs
    ]
    alone = {
        "Label balance": measures["label_balance"],
        "Novelty, median": novelty and novelty["p50"],
        "Novelty, 10th percentile": novelty and novelty["p10"],
    }
    return described + [
        {"name": name, "synthetic": _show(value), "seeds": ""}
        for name, value in alone.items()
        if value is not None
    ]


def _show(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.2f}"
