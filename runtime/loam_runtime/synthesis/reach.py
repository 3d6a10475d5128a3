"""Which labels cannot get the rows they need, told from the yield so far.

A set with hardly any row of one label teaches a model not to answer it. Better said after the
first rounds than when the budget is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CONFIDENCE = 0.975
ENOUGH_LABEL_SHARE = 0.25  # of a label's quota; with less the set is badly unbalanced


@dataclass(frozen=True, slots=True)
class Shortage:
    """A label that stays under its least share.

    Attributes:
        label: its name.
        kept: rows that passed so far.
        num_draws: requests made for it.
        most: rows it can still come to, at the upper bound of its yield.
        quota: rows wanted.
    """

    label: str
    kept: int
    num_draws: int
    most: int
    quota: int


def bound_yield(kept: int, num_slots: int) -> float:
    """Upper 97.5 % bound of the share of rows asked for that pass (Clopper and Pearson, 1934)."""
    from scipy.stats import beta

    if kept >= num_slots:
        return 1.0
    return float(beta.ppf(CONFIDENCE, kept + 1, num_slots - kept))


def find_shortages(
    quotas: Mapping[str, int],
    kept: Mapping[str, int],
    num_draws: Mapping[str, int],
    draws_left: Mapping[str, float],
    rows_per_draw: int,
) -> list[Shortage]:
    """The labels that even a lucky rest of the run does not bring to a quarter of their quota.

    Args:
        quotas, kept, num_draws, draws_left: by label; kept may be more than was asked for.
        rows_per_draw: rows asked for in one request.
    """
    found = []
    for label, quota in quotas.items():
        have, slots = kept.get(label, 0), num_draws.get(label, 0) * rows_per_draw
        if not slots or have >= ENOUGH_LABEL_SHARE * quota:
            continue
        most = have + bound_yield(have, slots) * draws_left[label] * rows_per_draw
        if most < ENOUGH_LABEL_SHARE * quota:
            found.append(Shortage(label, have, num_draws[label], int(most), quota))
    return found
