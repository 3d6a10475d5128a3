"""What the report shows of the judge of answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loam_runtime.data.export import read_json_lines
from loam_runtime.report.data import JudgePart, JudgeSample
from loam_runtime.steps.predictions import TUNED, VERDICTS_FILE

if TYPE_CHECKING:
    from loam_runtime.stages import StageOutput

NUM_SHOWN = 12
# What is shown first: what speaks against the fine-tuned model.
_ORDER = ("loss", "win", "tie")


def describe_judge(
    judge: StageOutput | None,
    inputs: Mapping[str, str],
    predictions: Mapping[str, list[dict[str, Any]]],
    model_names: Mapping[str, str],
) -> JudgePart | None:
    """From the stage's result and its verdicts; None in a job without a judge.

    Args:
        inputs: text of each test row by id.
        predictions: answers by model name.
        model_names: how the page calls them.
    """
    if judge is None:
        return None
    result = judge.result
    trust, win_rate = result["trust"], result["win_rate"]
    counts = result["counts"]
    return {
        "judge": result["judge"],
        "text": result["text"],
        "is_assessable": result["is_assessable"],
        "prefers_tuned": result["prefers_tuned"],
        "trust_note": _describe_trust(trust),
        "num_judged": counts["win"] + counts["tie"] + counts["loss"],
        "counts": counts,
        "num_inconsistent": result["num_inconsistent"],
        "win_rate": {name: win_rate[name] for name in ("value", "low", "high")}
        if win_rate
        else None,
        "baseline": model_names.get(result["baseline"], result["baseline"]),
        "samples": _draw_samples(judge, inputs, predictions),
    }


def _describe_trust(trust: Mapping[str, Any] | None) -> str:
    if not trust or not trust["num_rows"]:
        return ""
    word = "trusted" if trust["is_trusted"] else "not trusted"
    return (
        f"Measured first, it preferred a row's true answer to that of another row, in both orders, "
        f"on {trust['num_right']} of {trust['num_rows']} rows (exact binomial against chance: "
        f"p = {trust['p_value']:.2g}): {word}."
    )


def _draw_samples(
    judge: StageOutput,
    inputs: Mapping[str, str],
    predictions: Mapping[str, list[dict[str, Any]]],
) -> list[JudgeSample]:
    """A third of each outcome where there are as many, those of which the orders differ last."""
    records = read_json_lines(judge.folder / VERDICTS_FILE)
    answers = {
        name: {row["id"]: row for row in rows}
        for name, rows in predictions.items()
        if name in {TUNED, judge.result["baseline"]}
    }
    records.sort(key=lambda one: not one["isConsistent"])
    pools = [[one for one in records if one["outcome"] == outcome] for outcome in _ORDER]
    chosen = [one for pool in pools for one in pool[: NUM_SHOWN // len(_ORDER)]]
    return [_show(one, inputs, answers) for one in chosen]


def _show(
    record: Mapping[str, Any],
    inputs: Mapping[str, str],
    answers: Mapping[str, Mapping[str, dict[str, Any]]],
) -> JudgeSample:
    tuned, baseline = (answers[name][record["id"]] for name in record["compared"])
    reasons = list(dict.fromkeys(filter(None, record["reasons"])))
    return {
        "input": inputs[record["id"]],
        "target": tuned["target"],
        "tuned": tuned["answer"],
        "baseline": baseline["answer"],
        "outcome": record["outcome"] if record["isConsistent"] else "tie: the orders differ",
        "reason": " / ".join(reasons),
    }
