"""Intervals: Wilson's for proportions, the bootstrap for everything else and for differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 2000
_BLOCK_VALUES = 4_000_000  # weights held at once: 32 MB, whatever the number of rows
_Z_95 = 1.959963984540054

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured value with its 95 % interval.

    Attributes:
        method: "wilson", "bootstrap" or "groupBootstrap" (whole groups are redrawn).
    """

    value: float
    low: float
    high: float
    method: str


def compute_wilson_interval(num_hits: float, num_rows: int) -> Interval:
    """Wilson's score interval of a proportion: honest at few rows and near 0 and 1.

    Source: E. B. Wilson, JASA 22 (1927).
    """
    share = num_hits / num_rows
    spread = _Z_95**2 / num_rows
    center = (share + spread / 2) / (1 + spread)
    half = _Z_95 / (1 + spread) * math.sqrt(share * (1 - share) / num_rows + spread / 4 / num_rows)
    # At 0 and 1 the formula is exact but its rounding is not.
    low, high = max(0.0, center - half), min(1.0, center + half)
    return Interval(share, min(low, share), max(high, share), "wilson")


def bootstrap_statistic(
    contributions: np.ndarray, statistic: Statistic, groups: Sequence[str]
) -> np.ndarray:
    """Values of a statistic over `NUM_RESAMPLES` redrawn test sets, the same draws every time.

    Args:
        contributions: [num_rows, width], what each row adds to the sums.
        statistic: sums [..., width] -> values [...].
        groups: a row's group, "" for none; rows of one group are drawn together. SCIENCE:
            questions on one document are not independent.

    Returns:
        [NUM_RESAMPLES]
    """
    draws = [weights @ contributions for weights in _iterate_weights(groups)]
    return statistic(np.concatenate(draws))


def _iterate_weights(groups: Sequence[str]) -> Iterator[np.ndarray]:
    """How often each row is drawn: blocks of [resamples, num_rows]."""
    units = np.unique(_name_units(groups), return_inverse=True)[1]
    num_units = int(units.max()) + 1
    rng = np.random.default_rng(0)
    left = NUM_RESAMPLES
    while left:
        size = min(left, max(1, _BLOCK_VALUES // len(units)))
        counts = rng.multinomial(num_units, np.full(num_units, 1 / num_units), size=size)
        yield counts[:, units].astype(float)
        left -= size


def _name_units(groups: Sequence[str]) -> list[str]:
    return [f"group {group}" if group else f"row {row:012}" for row, group in enumerate(groups)]


def has_groups(groups: Sequence[str]) -> bool:
    """Whether any two rows must be drawn together."""
    return any(groups)


def compute_percentile_interval(
    value: float, resampled: np.ndarray, groups: Sequence[str]
) -> Interval:
    """The 2.5th to the 97.5th percentile of resampled values, the measured one always inside."""
    low, high = np.percentile(resampled[~np.isnan(resampled)], [2.5, 97.5])
    method = "groupBootstrap" if has_groups(groups) else "bootstrap"
    return Interval(value, min(float(low), value), max(float(high), value), method)
