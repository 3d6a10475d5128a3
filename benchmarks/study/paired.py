"""Differences of two arms over repeats: paired by repeat and test row, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 4000
MIN_REPEATS = 2  # one repeat says nothing of another draw of seeds


@dataclass(frozen=True, slots=True)
class Difference:
    """One arm minus another, in shares of rows that are right.

    Attributes:
        low, high: 95 % interval by the hierarchical bootstrap; None with a single repeat.
        num_repeats: repeats in which both arms were measured, over all data sets.
    """

    value: float
    low: float | None
    high: float | None
    num_repeats: int

    @property
    def is_decided(self) -> bool:
        """The interval leaves 0 out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def compare_arms(by_task: Sequence[Sequence[np.ndarray]]) -> Difference:
    """The mean over data sets of the mean over repeats, repeats and then rows redrawn.

    The data sets are the three that they are and are not redrawn: the interval speaks of other
    draws of seeds, synthetic rows, training and test rows of these.

    Args:
        by_task: for each data set, for each repeat, [num_rows] of differences in {-1, 0, 1}.
    """
    means = [np.array([rows.mean() for rows in repeats]) for repeats in by_task]
    value = float(np.mean([values.mean() for values in means]))
    num_repeats = sum(map(len, by_task))
    if min(map(len, by_task)) < MIN_REPEATS:
        return Difference(value, None, None, num_repeats)
    rng = np.random.default_rng(0)
    resampled = np.mean([_resample(repeats, rng) for repeats in by_task], axis=0)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Difference(value, float(low), float(high), num_repeats)


def _resample(repeats: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """[NUM_RESAMPLES]: the mean with repeats redrawn, and rows within each."""
    drawn = np.stack([_resample_rows(rows, (NUM_RESAMPLES, len(repeats)), rng) for rows in repeats])
    chosen = rng.integers(0, len(repeats), (NUM_RESAMPLES, len(repeats)))
    samples, places = np.indices(chosen.shape)
    return drawn[chosen, samples, places].mean(axis=1)


def _resample_rows(
    rows: np.ndarray, shape: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """[shape]: means of redrawn rows; only how often each value comes matters."""
    values, counts = np.unique(rows, return_counts=True)
    drawn = rng.multinomial(len(rows), counts / len(rows), size=shape)
    return drawn @ values / len(rows)
