"""How far a label-consistency filter can be believed: measured on the seeds, leave-one-out."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from loam_runtime.data.examples import Example
from loam_runtime.errors import InputError

OnUntrusted = Literal["keep", "fail"]
# How a report calls the judge of labels where a job names none.
GENERATING_MODEL = "the model that wrote the rows"
NUM_ORDERS = 3
SIGNIFICANCE = 0.05


@dataclass(frozen=True, slots=True)
class Trust:
    """How well the filter does on the seeds.

    Attributes:
        num_correct, num_seeds: seeds whose own label was found, of those measured; 0 of 0 where
            there are too few to prove anything.
        majority_share: what always naming the commonest label would get right.
        p_value: exact binomial, one-sided: as many or more by chance at the majority's rate.
    """

    num_correct: int
    num_seeds: int
    majority_share: float
    p_value: float

    @property
    def is_trusted(self) -> bool:
        """Better than the majority class beyond chance."""
        return self.p_value < SIGNIFICANCE

    def describe(self, judge: str) -> dict[str, object]:
        """The figures, for the report, with who was measured."""
        return {
            "judge": judge,
            "trusted": self.is_trusted,
            "seeds_correct": self.num_correct,
            "seeds_measured": self.num_seeds,
            "majority_share": round(self.majority_share, 4),
            "p_value": self.p_value,
            "note": f"Label consistency, judged by {judge}, was {self._conclude()}: "
            f"{self._count()}.",
        }

    def refuse(self, judge: str) -> InputError:
        """The error of a job that fails by it."""
        return InputError(
            f"The label-consistency filter, judged by {judge}, is not surely better than the "
            f"majority class: {self._count()}.",
            remedy="Set synthesis.onUntrustedFilter to keep, name a stronger model under "
            "synthesis.judge, or give more seeds.",
        )

    def _conclude(self) -> str:
        return "trusted" if self.is_trusted else "not trusted and dropped nothing"

    def _count(self) -> str:
        majority = f"(the majority class: {self.majority_share:.0%})"
        if not self.num_seeds:
            return f"the seeds are too few to prove anything {majority}"
        return f"right on {self.num_correct} of {self.num_seeds} seeds {majority}"


def compute_trust(labels: Sequence[str], found: Sequence[str]) -> Trust:
    """Trust from the seeds' own labels and those that were found for them.

    Args:
        labels: [num_seeds]
        found: for the first of them, where measuring ended early; "" where no label was found.
            The majority class is that of all seeds: the first few may have another.
    """
    from scipy.stats import binomtest

    num_correct = sum(own == other for own, other in zip(labels, found, strict=False))
    majority = compute_majority_share(labels)
    if not found:
        return Trust(0, 0, majority, p_value=1.0)
    p_value = binomtest(num_correct, len(found), majority, alternative="greater").pvalue
    return Trust(num_correct, len(found), majority, float(p_value))


def can_be_trusted(labels: Sequence[str], found: Sequence[str]) -> bool:
    """Whether it would be trusted if it were right on all that are left.

    Args:
        labels: [num_seeds]
        found: for the first of them, as in `compute_trust`.
    """
    return compute_trust(labels, [*found, *labels[len(found) :]]).is_trusted


def compute_majority_share(labels: Sequence[str]) -> float:
    """Share of the commonest label."""
    return max(Counter(labels).values()) / len(labels)


def draw_orders(
    seeds: Sequence[Example], labels: Sequence[str], rng: random.Random, *, per_label: int
) -> list[list[Example]]:
    """The same shots, a few per label, in three random orders."""
    shots = []
    for label in labels:
        of_label = [seed for seed in seeds if seed.target == label]
        shots += rng.sample(of_label, min(per_label, len(of_label)))
    return [rng.sample(shots, len(shots)) for _ in range(NUM_ORDERS)]


def cut_folds(seeds: Sequence[Example]) -> list[list[Example]]:
    """Folds with at most one seed of each label.

    Leaving one of every label out keeps the labels of a prompt balanced, where leaving a single
    seed out would tilt it against that seed's own label; and one prompt serves all labels.
    """
    folds: list[list[Example]] = []
    num_seen: Counter[str] = Counter()
    for seed in seeds:
        place = num_seen[seed.target]
        num_seen[seed.target] += 1
        if place == len(folds):
            folds.append([])
        folds[place].append(seed)
    return folds


def choose_measured(
    seeds: Sequence[Example], shots: Sequence[Example], *, enough: int, most: int
) -> list[Example]:
    """The seeds to measure on: up to `most`, label by label, their shares near the seeds'.

    A seed that is a shot needs prompts of its own; where there are `enough` others, it is spared.
    """
    shown = {shot.id for shot in shots}
    others = [seed for seed in seeds if seed.id not in shown]
    pool = others if len(others) >= enough else list(seeds)
    if len(pool) <= most:
        return pool
    step = len(pool) / most
    ordered = sorted(pool, key=lambda seed: (seed.target, seed.id))
    return [ordered[int(place * step)] for place in range(most)]
