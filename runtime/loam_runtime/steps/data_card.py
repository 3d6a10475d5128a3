"""The data card of a job's synthetic rows, from the report of their synthesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loam_runtime.export.data_card import DataCardFacts, render_data_card
from loam_runtime.steps.funnel import (
    describe_funnel,
    describe_measures,
    describe_rationales,
    describe_trust,
)

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJob


def write_data_card(
    job: FineTuneJob,
    num_seeds: int,
    report: Mapping[str, Any],
    rejected: Sequence[Mapping[str, Any]],
) -> str:
    """The card's Markdown.

    Args:
        num_seeds: training rows that the user gave.
        report: of the synthesis, or of a review after it; see `SynthesisResult`.
        rejected: records of the rows that were not used.
    """
    spec = job.spec
    openai = spec.synthesis.teacher.openai
    contamination = report["filters"].get("contamination", {})
    facts = DataCardFacts(
        name=job.metadata.name,
        task=spec.data.task,
        description=spec.data.description,
        teacher=openai.model if openai else "the base model itself",
        strategy=spec.synthesis.strategy,
        num_seeds=num_seeds,
        num_wanted=report["wanted"],
        num_kept=report["kept"],
        labels=report["measures"]["labels"],
        funnel=describe_funnel(report, rejected),
        measures=describe_measures(report["measures"]),
        held_out=contamination.get("held_out_inputs", 0),
        num_flagged=contamination.get("flagged", 0),
        filter_note=describe_trust(report["filters"]),
        stopped=report["stopped"],
        rationale_note=describe_rationales(report),
    )
    return render_data_card(facts)
