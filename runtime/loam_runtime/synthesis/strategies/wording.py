"""Sentences that every kind of request to a teacher is made of."""

from __future__ import annotations

from collections.abc import Sequence

from loam_runtime.synthesis.analysis.seeds import SeedProfile
from loam_runtime.synthesis.analysis.texts import LengthRange
from loam_runtime.synthesis.strategies.base import TaskBrief

TASK_RULES = {
    "extraction": "An output says nothing that its input does not hold: names, numbers and words "
    "are copied from it. Write the input in full, with all that the output needs.",
    "summarization": "An input is a whole document, an output its summary, which says nothing "
    "that the document does not. Write the document in full.",
    "text": "An output is a text of its own, as it would stand in a document of the domain.",
}


def join_paragraphs(*paragraphs: str) -> str:
    """Those that say something, a blank line between each two."""
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def describe_profile(brief: TaskBrief, profile: SeedProfile, *, has_input: bool) -> str:
    """What the analysis found, as instructions."""
    lines = []
    if brief.is_classification:
        lines.append(f"The classes are: {', '.join(map(brief.name_label, brief.labels))}.")
    if has_input:
        lines.append(f"An input has {_describe_range(profile.input_words)}.")
        lines += [f"As a rule an input {trait}." for trait in profile.input_conventions]
    if not brief.is_classification:
        lines.append(f"An output has {_describe_range(profile.target_words)}.")
        lines += [f"As a rule an output {trait}." for trait in profile.target_conventions]
    return "\n".join(lines)


def describe_task(brief: TaskBrief) -> str:
    """What every task of the kind asks of its rows, whatever the seeds look like."""
    if brief.has_pairs:
        return (
            'Both "chosen" and "rejected" answer the input. "chosen" is clearly better; "rejected" '
            "is plausible, of about the same length, and has one fault that matters."
        )
    return TASK_RULES.get(brief.task, "")


def describe_constraints(constraints: Sequence[str], turn: int) -> str:
    """All constraints, and in turn the one to mind above all."""
    if not constraints:
        return ""
    lines = "\n".join(f"- {constraint}" for constraint in constraints)
    stressed = constraints[turn % len(constraints)] if len(constraints) > 1 else ""
    note = f"\nThis time mind above all: {stressed}" if stressed else ""
    return f"Every example must respect:\n{lines}{note}"


def _describe_range(words: LengthRange) -> str:
    if words.low == words.high:
        return f"about {words.middle} word{'s' if words.middle != 1 else ''}"
    return f"{words.low} to {words.high} words, {words.middle} in the middle"
