"""What the seeds do not show: labels with few rows, lengths and styles that are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.analysis.texts import LengthRange
from loam_runtime.synthesis.analysis.traits import MIN_ROWS

RARE_SHARE = 0.5  # of what the label would have, were all labels alike


def find_gaps(
    seeds: Sequence[Example],
    labels: Mapping[str, int],
    words: LengthRange,
    styles: Mapping[str, float],
    all_styles: Sequence[str],
) -> tuple[str, ...]:
    """Gaps as sentences, for the report.

    Args:
        labels: rows by label; empty unless classification.
        words: length range of what is written, over all seeds.
        styles: share of the seeds that have a style.
        all_styles: every style that was looked for.
    """
    gaps = [
        f"The label {label!r} has {count} of {len(seeds)} seeds, less than half an even share."
        for label, count in labels.items()
        if count < RARE_SHARE * len(seeds) / len(labels)
    ]
    gaps += _find_length_gaps(seeds, labels, words)
    if len(seeds) >= MIN_ROWS:
        gaps += [f"No seed {style}." for style in all_styles if style not in styles]
    return tuple(gaps)


def _find_length_gaps(
    seeds: Sequence[Example], labels: Mapping[str, int], words: LengthRange
) -> list[str]:
    """Labels without a short, or without a long row, where the task as a whole has both."""
    if words.high - words.low < 4:
        return []
    low, high = (words.low + words.middle) / 2, (words.middle + words.high) / 2
    gaps = []
    for label, count in labels.items():
        lengths = [len(seed.input.split()) for seed in seeds if seed.target == label]
        if count >= MIN_ROWS and min(lengths) > low:
            gaps.append(f"No seed of the label {label!r} is short (up to {low:g} words).")
        if count >= MIN_ROWS and max(lengths) < high:
            gaps.append(f"No seed of the label {label!r} is long (from {high:g} words).")
    return gaps
