"""What the synthetic rows are like: how many labels are wrong, how varied they are as they grow."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from benchmarks.study.arms import take_first
from benchmarks.study.probe import Probe
from benchmarks.study.tasks import Draw, Task

from loam_runtime.data.examples import Example
from loam_runtime.data.normalize import normalize_text
from loam_runtime.synthesis.embeddings import embed_texts
from loam_runtime.synthesis.measures import (
    measure_dispersion,
    measure_distinct,
    measure_novelty,
)

SIZES = (5, 10, 20)  # rows per class


class Judge:
    """A probe that has learnt all real training rows of a task.

    It stands in for a person who labels the synthetic rows; `accuracy`, on all real test rows,
    says how far its word goes.
    """

    def __init__(self, task: Task) -> None:
        self._task = task

    @cached_property
    def _probe(self) -> Probe:
        return Probe(self._task.train)

    @cached_property
    def accuracy(self) -> float:
        return float(np.mean(self.agrees(self._task.test)))

    def agrees(self, rows: Sequence[Example]) -> list[bool]:
        """Whether each row's label is the one that the judge would give."""
        return self._probe.agrees(rows)


def describe_rows(draw: Draw, pool: Sequence[Example], judge: Judge) -> dict[str, Any]:
    """Labels confirmed by the judge, and variety by size beside as many real rows.

    Returns:
        "confirmed": share of the pool's labels; "judgeAccuracy"; "sizes": by rows per class, for
        "synthetic" and "real" rows: "distinct2" (share of different word pairs), "dispersion"
        (mean cosine distance of two rows of a class) and, for the pool, "novelty" (median cosine
        distance to the nearest seed).
    """
    rng = random.Random(f"{draw.task.name}/{draw.seed}/real")
    real = rng.sample(draw.held_back, len(draw.held_back))
    sizes = {}
    num_labels = len(draw.task.labels)
    for size in (size for size in SIZES if size * num_labels <= len(pool)):
        sides = {"synthetic": take_first(pool, size), "real": take_first(real, size)}
        sizes[str(size)] = {name: _measure_side(rows, draw.seeds) for name, rows in sides.items()}
    return {
        "confirmed": round(float(np.mean(judge.agrees(pool))), 4),
        "judgeAccuracy": round(judge.accuracy, 4),
        "sizes": sizes,
    }


def _measure_side(rows: Sequence[Example], seeds: Sequence[Example]) -> dict[str, float | None]:
    words = [normalize_text(row.input).split() for row in rows]
    spreads = [
        measure_dispersion(embed_texts([row.input for row in rows if row.target == label]))
        for label in sorted({row.target for row in rows})
    ]
    known = [spread for spread in spreads if spread is not None]
    vectors, near = (embed_texts([row.input for row in side]) for side in (rows, seeds))
    novelty = measure_novelty(vectors, near)
    return {
        "distinct2": measure_distinct(words, 2),
        "dispersion": round(float(np.mean(known)), 4) if known else None,
        "novelty": novelty["p50"] if novelty else None,
    }
