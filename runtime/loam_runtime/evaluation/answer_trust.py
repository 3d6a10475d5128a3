"""How far a judge of answers can be believed: measured on test rows whose right answer is known.

A judge that prefers the longer answer, or the first one, or any, is found out by asking it for what
is known: whether a row's own reference is better than that of another row.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loam_api.planning.answer_judge import MEASURED_ROWS
from loam_runtime.data.examples import Example
from loam_runtime.evaluation.answer_judge import Opinion
from loam_runtime.evaluation.text_overlap import normalize_answer

SIGNIFICANCE = 0.05
CHANCE = 0.5  # of preferring the true one: of two texts that are compared without their input


@dataclass(frozen=True, slots=True)
class Trial:
    """A row with its own answer and one that is not its own."""

    row: Example
    wrong: str


@dataclass(frozen=True, slots=True)
class AnswerTrust:
    """How well a judge told true answers from wrong ones.

    Attributes:
        num_right: rows of which it preferred the true answer in both orders.
        num_rows: rows of which it answered both questions.
        num_trials: rows that there were to ask about; 0 where they could prove nothing.
        p_value: exact binomial, one-sided: as many or more by chance.
    """

    num_right: int
    num_rows: int
    num_trials: int
    p_value: float

    @property
    def is_trusted(self) -> bool:
        """Better than chance."""
        return self.p_value < SIGNIFICANCE

    def to_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "is_trusted": self.is_trusted}


def draw_trials(rows: Sequence[Example], seed: int) -> list[Trial]:
    """A sample of the rows, each with the reference of another one, of about its own length.

    No wrong answer serves twice, and none equals the true one but for case, articles and
    punctuation. None at all where so few could prove nothing.
    """
    rng = random.Random(f"{seed}/answer-trust")
    pool = [row for row in rows if row.target.strip()]
    chosen = rng.sample(pool, min(len(pool), MEASURED_ROWS))
    rng.shuffle(pool)
    trials = []
    for row in chosen:
        own = normalize_answer(row.target)
        others = [
            other
            for other in pool
            if normalize_answer(other.target) != own and (not row.group or other.group != row.group)
        ]
        if others:
            wrong = min(others, key=lambda other: abs(len(other.target) - len(row.target)))
            pool.remove(wrong)
            trials.append(Trial(row, wrong.target))
    return trials if CHANCE ** len(trials) < SIGNIFICANCE else []


def compute_answer_trust(
    opinions: Sequence[tuple[Opinion | None, Opinion | None]],
) -> AnswerTrust:
    """From what was said of each trial, the true answer as A first and as B second.

    What cannot be read is not right; what was not answered (None) is left out.
    """
    from scipy.stats import binomtest

    answered = [(one, other) for one, other in opinions if one and other]
    num_right = sum((one.choice, other.choice) == ("A", "B") for one, other in answered)
    if not answered:
        return AnswerTrust(0, 0, len(opinions), p_value=1.0)
    p_value = binomtest(num_right, len(answered), CHANCE, alternative="greater").pvalue
    return AnswerTrust(num_right, len(answered), len(opinions), float(p_value))
