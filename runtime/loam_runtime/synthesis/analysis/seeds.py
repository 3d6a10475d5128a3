"""Seed analysis: the task's patterns and conventions, read from the training rows alone.

First of the three stages of the pipeline (seed analysis, generation with controlled variation,
quality filtering; "Efficient fine-tuning ... limited data", section 2.2). Its sentences go into
the teacher's instructions, its numbers into the plan of variation and the report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loam_runtime.data.examples import Example
from loam_runtime.data.normalize import normalize_text
from loam_runtime.synthesis.analysis.gaps import find_gaps
from loam_runtime.synthesis.analysis.texts import (
    LengthRange,
    Vocabulary,
    measure_lengths,
    measure_vocabulary,
)
from loam_runtime.synthesis.analysis.traits import (
    FORMATS,
    MIN_ROWS,
    MIN_SHARE,
    STYLES,
    find_conventions,
    measure_shares,
)


@dataclass(frozen=True, slots=True)
class SeedProfile:
    """What the seeds have in common, and what they lack.

    Attributes:
        pattern: the task as a sentence.
        num_rows: rows analysed.
        labels: rows per label, most frequent first; empty unless classification.
        label_conventions: how labels are written, as predicates.
        input_words, target_words: length ranges.
        input_conventions, target_conventions: predicates about the format, for an instruction.
        formats, styles: share of the written side's texts that have a trait.
        vocabulary: of the written side.
        gaps: what the seeds do not show, as sentences.

    The written side is the input, and the target where rows have no input.
    """

    pattern: str
    num_rows: int
    labels: dict[str, int]
    label_conventions: tuple[str, ...]
    input_words: LengthRange
    target_words: LengthRange
    input_conventions: tuple[str, ...]
    target_conventions: tuple[str, ...]
    formats: dict[str, float]
    styles: dict[str, float]
    vocabulary: Vocabulary
    gaps: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """The profile for the report."""
        return asdict(self)


def analyze_seeds(seeds: Sequence[Example], *, is_classification: bool) -> SeedProfile:
    """Read the patterns of at least one row."""
    inputs = [seed.input for seed in seeds if seed.input]
    targets = [seed.target for seed in seeds]
    labels = dict(Counter(targets).most_common()) if is_classification else {}
    written = inputs or targets
    words, styles = measure_lengths(written), measure_shares(written, STYLES)
    return SeedProfile(
        pattern=_name_pattern(seeds, labels),
        num_rows=len(seeds),
        labels=labels,
        label_conventions=find_conventions(list(labels)),
        input_words=measure_lengths(inputs or [""]),
        target_words=measure_lengths(targets),
        input_conventions=find_conventions(inputs),
        target_conventions=() if is_classification else _find_target_conventions(seeds),
        formats=measure_shares(written, FORMATS),
        styles=styles,
        vocabulary=measure_vocabulary(written),
        gaps=find_gaps(seeds, labels, words, styles, tuple(STYLES)),
    )


def _name_pattern(seeds: Sequence[Example], labels: dict[str, int]) -> str:
    if labels:
        return f"Each input gets one of {len(labels)} labels."
    if not any(seed.input for seed in seeds):
        return "Plain text, without input and output."
    if any(seed.rejected for seed in seeds):
        return "Each input has a preferred and a refused answer."
    if _is_copied(seeds):
        return "Each output is copied from its input."
    if _is_shortened(seeds):
        return "Each output is much shorter than its input, and in other words."
    return "Each input gets an output in free text."


def _find_target_conventions(seeds: Sequence[Example]) -> tuple[str, ...]:
    conventions = find_conventions([seed.target for seed in seeds])
    if len(seeds) < MIN_ROWS or not _is_copied(seeds):
        return conventions
    return (*conventions, "is copied from its input, word for word")


def _is_copied(seeds: Sequence[Example]) -> bool:
    copied = sum(
        bool(seed.input) and normalize_text(seed.target) in normalize_text(seed.input)
        for seed in seeds
    )
    return copied >= MIN_SHARE * len(seeds)


def _is_shortened(seeds: Sequence[Example]) -> bool:
    shorter = sum(3 * len(seed.target.split()) <= len(seed.input.split()) for seed in seeds)
    return shorter >= MIN_SHARE * len(seeds) and all(len(seed.target.split()) > 3 for seed in seeds)
