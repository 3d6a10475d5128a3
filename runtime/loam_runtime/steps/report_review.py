"""What the report shows of the human spot check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loam_api.review import SPOT_CHECK_FILE
from loam_runtime.data.examples import iterate_examples
from loam_runtime.data.tables import read_table
from loam_runtime.report.data import SpotCheckPart
from loam_runtime.synthesis.verdict_file import list_ids

if TYPE_CHECKING:
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
        "rows": [
            {
                "input": rows[one].input,
                "target": rows[one].target,
                "reason": words.get(one, ""),
            }
            for one in ids[:NUM_SHOWN]
        ],
    }
