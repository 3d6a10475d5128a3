"""What the report says of the seed analysis and the plan of variation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def describe_design(report: Mapping[str, Any]) -> dict[str, Any]:
    """The parts `analysis`, `gaps` and `variation` of the page; empty where there was no analysis.

    Args:
        report: of the synthesis.
    """
    analysis = report.get("analysis", {})
    return {
        "analysis": _list_facts(analysis) if analysis else [],
        "gaps": list(analysis.get("gaps", ())),
        "variation": [
            {"attribute": name, "value": value, **counts}
            for name, values in report.get("variation", {}).items()
            for value, counts in values.items()
        ],
    }


def _list_facts(analysis: Mapping[str, Any]) -> list[dict[str, str]]:
    vocabulary = analysis["vocabulary"]
    facts = {
        "Task": analysis["pattern"],
        "Rows": str(analysis["num_rows"]),
        "Labels": ", ".join(f"{name} {count}" for name, count in analysis["labels"].items()),
        "A label": ", ".join(analysis["label_conventions"]),
        "Words of an input": _show_range(analysis["input_words"]),
        "Words of an output": _show_range(analysis["target_words"]),
        "An input": ", ".join(analysis["input_conventions"]),
        "An output": ", ".join(analysis["target_conventions"]),
        "Formats": _show_shares(analysis["formats"]),
        "Styles": _show_shares(analysis["styles"]),
        "Vocabulary": f"{vocabulary['num_distinct']} different of {vocabulary['num_words']} words",
        "Subjects": ", ".join(vocabulary["terms"]),
    }
    return [{"name": name, "value": value} for name, value in facts.items() if value]


def _show_range(words: Mapping[str, int]) -> str:
    if not words["high"]:
        return ""
    return f"{words['low']} to {words['high']}, {words['middle']} in the middle"


def _show_shares(shares: Mapping[str, float]) -> str:
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:.0%}" for name, share in ordered)
