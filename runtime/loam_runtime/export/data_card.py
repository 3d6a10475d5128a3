"""The data card: README.md beside the published synthetic rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loam_runtime.export.card import load_template


@dataclass(frozen=True, slots=True)
class DataCardFacts:
    """What a data card tells.

    Attributes:
        name: the job's.
        task, description: what the rows are for.
        teacher, strategy: who wrote them, and how.
        num_seeds, num_wanted, num_kept: rows.
        labels: kept rows by label; empty without labels.
        funnel: by filter "name", "seen" and "passed", in order.
        measures: "name", "synthetic" and "seeds", ready to be read.
        held_out: inputs of test and validation rows that none of the rows repeats.
        num_flagged: rows that only mean the same as one of those, and stayed.
        filter_note: how far filters were trusted, and who judged the labels, in sentences.
        stopped: why fewer rows came than were wanted, or "".
        rationale_note: where the rationales of the user's rows are from, or "".
    """

    name: str
    task: str
    description: str
    teacher: str
    strategy: str
    num_seeds: int
    num_wanted: int
    num_kept: int
    labels: Mapping[str, int]
    funnel: Sequence[Mapping[str, object]]
    measures: Sequence[Mapping[str, str]]
    held_out: int
    num_flagged: int
    filter_note: str = ""
    stopped: str = ""
    rationale_note: str = ""


def render_data_card(facts: DataCardFacts) -> str:
    """The card as Markdown; everything user-supplied is escaped."""
    template = load_template("data_card.md.j2", trim_blocks=True, lstrip_blocks=True)
    return template.render(facts=facts)
