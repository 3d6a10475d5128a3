"""What the quality classifier learns from: good pairs, bad ones, and what is wrong with each."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.filters.corruptions import NUM_FOLDS, Fault, Pair, corrupt_seed
from loam_runtime.synthesis.filters.execution import SAME_RESULT, Executor
from loam_runtime.synthesis.filters.wrong_answers import FAULT

REJECTED = "rejected by a person"


@dataclass(frozen=True, slots=True)
class KnownRows:
    """What is known to be good or bad beside the seeds and what rules make of them.

    Attributes:
        wrong_answers: a teacher's, by the seed's id.
        approved, rejected: synthetic rows that a person has looked at.
    """

    wrong_answers: Mapping[str, str] = field(default_factory=dict)
    approved: Sequence[Example] = ()
    rejected: Sequence[Example] = ()


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Seeds and their corruptions; a seed and what was made of it form one group.

    Attributes:
        pairs, is_good, groups: [num_pairs]; a group is the place of its seed, and beyond the seeds
            each row that a person looked at is one.
        faults: name of what is wrong with each; "" for what is good.
        outcomes: what running each one's query showed (`execution.Outcome`); "" where nothing did.
    """

    pairs: list[Pair]
    is_good: np.ndarray
    groups: np.ndarray
    faults: np.ndarray
    outcomes: np.ndarray


def build_training_rows(
    seeds: Sequence[Example],
    folds: np.ndarray,
    rng: random.Random,
    *,
    is_classification: bool,
    known: KnownRows,
    executor: Executor | None = None,
) -> TrainingRows:
    """Each seed with what was made bad from it, then the rows that a person has looked at.

    Args:
        folds: [num_seeds]: the fold that each seed is held out in.
        executor: where queries can be run: what returns the seed's own result is not bad.
    """
    pairs: list[Pair] = []
    faults: list[str] = []
    groups: list[int] = []
    outcomes: list[str] = []
    for group, seed in enumerate(seeds):
        bad = corrupt_seed(
            seed, seeds, rng, is_classification=is_classification, fold=int(folds[group])
        )
        if seed.id in known.wrong_answers:
            bad.append((FAULT, (seed.input, known.wrong_answers[seed.id])))
        if executor is not None:
            bad += executor.spoil(seed, rng)
        for name, pair, outcome in _run([("", (seed.input, seed.target)), *bad], seed, executor):
            pairs.append(pair)
            faults.append(name)
            groups.append(group)
            outcomes.append(outcome)
    judged = [*known.approved, *known.rejected]
    pairs += [(row.input, row.target) for row in judged]
    faults += [""] * len(known.approved) + [REJECTED] * len(known.rejected)
    groups += range(len(seeds), len(seeds) + len(judged))
    outcomes += [""] * len(judged)
    names = np.array(faults)
    is_good = (names == "").astype(int)
    return TrainingRows(pairs, is_good, np.array(groups), names, np.array(outcomes))


def spread_folds(seed_folds: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """[num_pairs]: the fold of each; groups beyond the seeds take the folds in turn."""
    num_others = int(groups.max()) + 1 - len(seed_folds)
    return np.concatenate([seed_folds, np.arange(num_others) % NUM_FOLDS])[groups]


def _run(
    faults: Sequence[Fault], seed: Example, executor: Executor | None
) -> Iterator[tuple[str, Pair, str]]:
    """Faults with what running them showed, without those that return what the seed does."""
    for name, pair in faults:
        outcome = executor.compare(pair[1], seed) if executor is not None else ""
        if not (name and outcome == SAME_RESULT):
            yield name, pair, outcome
