"""What the report shows of the human spot check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loam_api.review import SPOT_CHECK_FILE
from loam_runtime.data.examples import iterate_examples
from loam_runtime.data.tables import read_table
from loam_runtime.report.data import SpotCheckPart
from loam_runtime.synthesis.verdict_file import list_ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loam_runtime.stages import StageOutput

NUM_SHOWN = 50


def read_spot_check(
    synthesis: StageOutput | None, review: StageOutput | None
) -> SpotCheckPart | None:
    """The sample and what was said of it; None where there is no sample."""
    if synthesis is None:
        return None
    path = (review or synthesis).folder / SPOT_CHECK_FILE
    if not path.exists():
        return None
    table = read_table(synthesis.folder / "data" / "synthetic.parquet")
    rows = {row.id: row for row in iterate_examples(table)}
    result = review.result if review else {}
    decision = result.get("decision", {})
    words = dict.fromkeys(decision.get("rejected_rows", []), "rejected")
    words |= dict.fromkeys(decision.get("good_rows", []), "good")
    ids = [one for one in list_ids(path.read_bytes()) if one in rows]
    ids.sort(key=lambda one: words.get(one, "") != "rejected")  # what was wrong first
    return {
        "decision": decision.get("decision", ""),
        "by": decision.get("by", ""),
        "time": decision.get("time", ""),
        "num_sampled": len(ids),
        "num_rejected": result.get("rejected", 0),
        "num_alike": result.get("alike", 0),
        "classifier_note": _describe_classifier(result),
        "rows": [
            {
                "input": rows[one].input,
                "target": rows[one].target,
                "reason": words.get(one, ""),
            }
            for one in ids[:NUM_SHOWN]
        ],
    }


def _describe_classifier(result: Mapping[str, Any]) -> str:
    told = result.get("classifier")
    if not told:
        return ""
    note = "The quality classifier was fitted again, with these verdicts as labels."
    if told["advisory"]:
        return f"{note} It is advisory and dropped no row."
    low = f"{result['low_quality']} fell under {told['threshold']:g} and left"
    return f"{note} Of the other rows {low}."
