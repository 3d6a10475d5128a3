"""What the report shows of the quality classifier."""

from __future__ import annotations

from typing import Any

from loam_runtime.report.data import QualityPart


def describe_quality(told: dict[str, Any]) -> QualityPart | None:
    """From what the filter says of itself; None where it could not be fitted."""
    if told.get("auc") is None:
        return None
    return {
        "num_seeds": told["seeds"],
        "is_advisory": told["advisory"],
        "auc": {
            "value": told["auc"],
            "low": told["auc_lower_bound"],
            "high": told["auc_upper_bound"],
        },
        "auc_by_fault": told["auc_by_fault"],
        "roc": [(point[0], point[1]) for point in told["roc"]],
    }
