"""Rows far longer or shorter than any seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.filters.base import Verdict

MIN_SEEDS = 8  # fewer have no distribution to speak of
MAX_DEVIATION = 3.5  # modified z-score, Iglewicz and Hoaglin (1993)
NORMAL_MAD = 0.6745  # median absolute deviation of a standard normal
RANGE_FACTOR = 3.0  # a third of the shortest seed to thrice the longest is never an outlier
LEAST_LIMIT = 80  # characters: no text under that is too long, however short the seeds


@dataclass(frozen=True, slots=True)
class LengthBounds:
    """Characters that a text may have, both ends included."""

    low: int
    high: int


class LengthFilter:
    """Drops a row whose input, or target where that is no label, is an outlier in length.

    Lengths are characters (words mean nothing in Chinese), compared as logarithms: half and
    double are equally far. An outlier is more than 3.5 modified z-scores from the seeds' median,
    by their median absolute deviation, and beyond a third of the shortest or thrice the longest.
    The second condition keeps seeds of one length from ruling out everything else. A text of at
    most 80 characters is never too long.

    Args:
        seeds: training rows; under 8 of them nothing is judged.
        is_classification: targets are labels, whose length says nothing.
    """

    name = "length"

    def __init__(self, seeds: Sequence[Example], *, is_classification: bool) -> None:
        readers: dict[str, Callable[[Example], str]] = {"input": lambda row: row.input}
        if not is_classification:
            readers["target"] = lambda row: row.target
        self._readers = readers
        self._bounds = {
            part: measure_bounds([read(seed) for seed in seeds]) for part, read in readers.items()
        }

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """See `Filter`."""
        return [Verdict(self._find(row)) for row in rows]

    def describe(self) -> dict[str, object]:
        """See `Filter`."""
        return {
            "characters": {
                part: [bounds.low, bounds.high] for part, bounds in self._bounds.items() if bounds
            }
        }

    def _find(self, row: Example) -> str:
        for part, read in self._readers.items():
            bounds = self._bounds[part]
            if bounds is None:
                continue
            if len(read(row)) < bounds.low:
                return f"{part} under {bounds.low} characters, unlike the seeds"
            if len(read(row)) > bounds.high:
                return f"{part} over {bounds.high} characters, unlike the seeds"
        return ""


def measure_bounds(texts: Sequence[str]) -> LengthBounds | None:
    """Lengths that are no outliers among these; None where there are too few of them.

    Empty texts (plain text has no input) do not count.
    """
    lengths = [len(text) for text in texts if text]
    if len(lengths) < MIN_SEEDS:
        return None
    logs = np.log(lengths)
    middle = float(np.median(logs))
    reach = MAX_DEVIATION / NORMAL_MAD * float(np.median(np.abs(logs - middle)))
    slack = math.log(RANGE_FACTOR)
    low = min(middle - reach, float(logs.min()) - slack)
    high = max(middle + reach, float(logs.max()) + slack)
    return LengthBounds(
        math.ceil(round(math.exp(low), 6)), max(math.floor(round(math.exp(high), 6)), LEAST_LIMIT)
    )
