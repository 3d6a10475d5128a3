"""The arms of the study: what each is trained on, and in which order they are measured."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.study.results import Cell
from benchmarks.study.tasks import Draw

from loam_runtime.data.examples import Example

SIZE = 10  # synthetic rows per class, unless the arm's name says otherwise
PROMPTED = ("zeroShot", "inContext")  # the model as it is
# The filters of a job on classified rows, in the order in which rows meet them; the quality
# classifier, before the last, is advisory with so few seeds and no arm.
FILTERS = (
    "exactDuplicates",
    "length",
    "nearDuplicates",
    "contamination",
    "language",
    "embeddingDuplicates",
    "consistency",
)
UNTRAINED = ("data", "data20")  # the synthetic rows themselves are measured
# Within a repeat all data sets have the arms of a tier before the next tier begins, so that a run
# that ends early leaves whole tables.
TIERS = (
    ("inContext", "real", "unfiltered10", "teacher0"),
    ("filtered10", "teacher20", "teacher40"),
    ("zeroShot", "confirmed10", "duplicated"),
    ("unfiltered5", "unfiltered20", "data20"),
    (*(f"through {name}" for name in FILTERS), "forced10"),
    ("cold10", "hot10"),
)
# What uses the rows that the model has written at temperature 1.
WRITING = frozenset(
    {
        *("data", "data20", "unfiltered5", "unfiltered10", "unfiltered20", "confirmed10"),
        *("filtered10", "forced10", *(f"through {name}" for name in FILTERS)),
    }
)
EARLY_TIERS = 2  # these go repeat by repeat; the later ones only when all repeats have these
# Arms of the quick student (`probe.py`): first those that need no row written.
PROBE = "probe "
PLAYED = ("real", "teacher0", "teacher20", "teacher40", "teacher60")
WRITTEN = ("unfiltered5", "unfiltered10", "confirmed10")
PROBE_REPEATS = 20
TEMPERATURES = {"cold10": 0.5, "hot10": 1.5}
NOISE = {"teacher0": 0.0, "teacher20": 0.2, "teacher40": 0.4, "teacher60": 0.6}


@dataclass(frozen=True, slots=True)
class Funnel:
    """What the filters of a job said of some rows.

    Attributes:
        dropped_by: row id -> name of the filter that dropped it.
        report: counts by filter, and how far each is trusted.
    """

    dropped_by: dict[str, str]
    report: dict[str, Any]


def order_cells(tasks: Sequence[str], num_repeats: int) -> Iterator[Cell]:
    """All cells of the study, the cheapest and the most telling first."""
    repeats = range(num_repeats)
    yield from _list_cells(tasks, range(PROBE_REPEATS), [PROBE + arm for arm in PLAYED])
    yield from _list_cells(tasks, repeats[:1], TIERS[0])
    yield from _list_cells(tasks, repeats, [*UNTRAINED[:1], *(PROBE + arm for arm in WRITTEN)])
    yield from _list_cells(tasks, repeats[:1], TIERS[1])
    for repeat in repeats[1:]:
        for arms in TIERS[:EARLY_TIERS]:
            yield from _list_cells(tasks, range(repeat, repeat + 1), arms)
    for arms in TIERS[EARLY_TIERS:]:
        yield from _list_cells(tasks, repeats, arms)


def _list_cells(tasks: Sequence[str], repeats: range, arms: Sequence[str]) -> Iterator[Cell]:
    for repeat in repeats:
        for task in tasks:
            for arm in arms:
                yield Cell(task, repeat, arm)


def duplicate_seeds(draw: Draw, per_class: int) -> list[Example]:
    """The seeds again and again, as many rows of each class as with `per_class` new ones."""
    rows = []
    for label in draw.task.labels:
        seeds = [row for row in draw.seeds if row.target == label]
        rows += [
            replace(seeds[place % len(seeds)], id=f"{seeds[place % len(seeds)].id}-{place}")
            for place in range(len(seeds) + per_class)
        ]
    return rows


def play_teacher(draw: Draw, noise: float, per_class: int = SIZE) -> list[Example]:
    """Rows as a teacher would write them whose every text is real and whose labels are wrong at a
    known rate: held-back rows, `noise` of those given a label belonging to another class.
    """
    rng = random.Random(f"{draw.task.name}/{draw.seed}/teacher")
    labels = draw.task.labels
    pools = {
        label: rng.sample(rows, len(rows))
        for label in labels
        for rows in [[row for row in draw.held_back if row.target == label]]
    }
    num_slots = per_class * len(labels)
    # The same slots are wrong, and more of them, as the noise grows.
    wrong = set(rng.sample(range(num_slots), num_slots)[: round(noise * num_slots)])
    rows = []
    for slot in range(num_slots):
        label = labels[slot % len(labels)]
        others = [other for other in labels if other != label]
        source = rng.choice(others) if slot in wrong else label
        row = pools[source].pop()
        rows.append(replace(row, target=label, origin="synthetic"))
    return rows


def keep_through(
    rows: Sequence[Example], dropped_by: Mapping[str, str], last_filter: str
) -> list[Example]:
    """The rows that the filters up to and with `last_filter` let pass."""
    applied = FILTERS[: FILTERS.index(last_filter) + 1]
    return [row for row in rows if dropped_by.get(row.id) not in applied]


def take_first(rows: Sequence[Example], per_class: int) -> list[Example]:
    """The first rows of each label, in their order."""
    left: dict[str, int] = {}
    taken = []
    for row in rows:
        if left.setdefault(row.target, per_class) > 0:
            left[row.target] -= 1
            taken.append(row)
    return taken


def digest_rows(rows: Sequence[Example]) -> str:
    """What a training on the rows depends on: their texts and labels, in their order."""
    content = json.dumps([(row.input, row.target) for row in rows])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
