"""Which rows train, which steer early stopping, and which are held out for the verdict.

A row's side follows from a hash of the seed and its content, not from its place in the file:
shuffling the file changes nothing, and a new row moves hardly any other. Rows of one group, and
rows whose inputs are equal after normalisation, stay together.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from loam_runtime.data.overlap import check_groups, check_overlap, digest_inputs
from loam_runtime.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

    from loam_api.finetunejob import DataSpec

TEST_FRACTION = 0.3
MIN_ROWS_FOR_TEST = 20
MIN_ROWS_FOR_VERDICT = 50
VALIDATION_FRACTION = 0.2
MIN_ROWS_PER_CLASS_FOR_VALIDATION = 10


@dataclass(frozen=True)
class Splits:
    """The three sides of the data.

    Attributes:
        train, validation, test: tables of examples; None where there is no such side.
        notes: what the reader should know about the split, one sentence each.
        seed: the job's seed.
        has_labels: whether targets are labels.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    notes: tuple[str, ...]
    seed: int
    has_labels: bool

    def to_record(self) -> dict[str, Any]:
        """The split as plain JSON: ids and counts of each side, by label where there are labels."""
        sides = {"train": self.train, "validation": self.validation, "test": self.test}
        return {
            "seed": self.seed,
            "notes": list(self.notes),
            "sides": {
                name: _record_side(rows, self.has_labels)
                for name, rows in sides.items()
                if rows is not None
            },
        }


def _record_side(rows: Dataset, has_labels: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"numRows": len(rows), "ids": rows["id"][:]}
    if has_labels:
        record["rowsByLabel"] = dict(sorted(Counter(rows["target"][:]).items()))
    return record


class _Rows:
    """What a split needs to know of a table: each row's class, and what must stay together."""

    def __init__(self, dataset: Dataset, has_labels: bool) -> None:
        self.labels = dataset["target"][:] if has_labels else [""] * len(dataset)
        self.units = _find_units(dataset)

    @cached_property
    def rows_by_unit(self) -> dict[str, list[int]]:
        rows = defaultdict(list)
        for row, unit in enumerate(self.units):
            rows[unit].append(row)
        return rows


def split_examples(
    seeds: Dataset,
    test: Dataset | None,
    data: DataSpec,
    seed: int,
    validation: Dataset | None = None,
) -> Splits:
    """Divide the seeds: the test set first, then validation from what is left.

    Args:
        seeds: what the user gave to learn from.
        test: the test set that the user gave; None to hold one out.
        data: task, group column and the rule for validation.
        seed: of the choice.
        validation: the rows of `data.validation.uri`.

    Raises:
        InputError: seeds of one class only, rows on both sides, labels that cannot be learnt, or
            a fraction that leaves nothing.
    """
    has_labels = data.task == "classification"
    _check_seeds(seeds, data)
    notes: list[str] = []
    if test is None:
        train, test = _hold_out_test(seeds, has_labels, seed, notes)
    else:
        _check_given(seeds, test, "test", has_labels)
        train = seeds
    if test is not None and len(test) < MIN_ROWS_FOR_VERDICT:
        notes.append(
            f"The test set has {len(test)} rows: the verdict is not assessable under "
            f"{MIN_ROWS_FOR_VERDICT}."
        )
    if data.validation.mode == "uri":
        _check_validation(train, validation, test, has_labels)
    else:
        train, validation = _hold_out_validation(train, data, seed, notes)
    return Splits(train, validation, test, tuple(notes), seed, has_labels)


def _check_seeds(seeds: Dataset, data: DataSpec) -> None:
    labels = set(seeds["target"][:]) if data.task == "classification" else set()
    if len(labels) == 1:
        raise InputError(
            f"All {len(seeds)} seeds have the label {labels.pop()!r}: there is nothing to tell "
            "apart.",
            remedy="Add examples of the other classes, or choose another task.",
        )
    if data.fields.group and not any(seeds["group"][:]):
        raise InputError(
            f"data.fields.group names the column {data.fields.group!r}, but no seed has it.",
            remedy="Correct the name.",
        )


def _check_given(train: Dataset, given: Dataset, side: str, has_labels: bool) -> None:
    """Refuse a given side that shares rows or groups with train, or has labels train lacks."""
    check_overlap(train, given, side)
    check_groups(train, given, side)
    unseen = sorted(set(given["target"][:]) - set(train["target"][:])) if has_labels else []
    if unseen:
        raise InputError(
            f"The {side} set has labels that no training row has: {unseen}.",
            remedy="Add examples of them to the seeds, or take those rows out.",
        )


def _check_validation(
    train: Dataset, validation: Dataset | None, test: Dataset | None, has_labels: bool
) -> None:
    if validation is None:
        raise InputError(
            "data.validation.mode is uri, but there are no rows.", remedy="Set data.validation.uri."
        )
    _check_given(train, validation, "validation", has_labels)
    if test is not None:
        check_overlap(validation, test, "test")
        check_groups(validation, test, "test")


def _hold_out_test(
    seeds: Dataset, has_labels: bool, seed: int, notes: list[str]
) -> tuple[Dataset, Dataset | None]:
    if len(seeds) < MIN_ROWS_FOR_TEST:
        notes.append(
            f"{len(seeds)} seeds are too few to hold out a test set ({MIN_ROWS_FOR_TEST} needed): "
            "the verdict is not assessable."
        )
        return seeds, None
    rows = _Rows(seeds, has_labels)
    chosen = _choose_rows(rows, TEST_FRACTION, seed, "test")
    if not chosen:
        notes.append(
            "No rows could be held out for a test with every class left in train: the verdict is "
            "not assessable."
        )
        return seeds, None
    untested = sorted(set(rows.labels) - {rows.labels[row] for row in chosen})
    if untested:
        notes.append(f"The held-out test set has no row of the labels {untested}.")
    notes.append(f"{len(chosen)} of {len(seeds)} seeds are held out as the test set.")
    return _divide(seeds, chosen)


def _hold_out_validation(
    train: Dataset, data: DataSpec, seed: int, notes: list[str]
) -> tuple[Dataset, Dataset | None]:
    mode = data.validation.mode
    if mode == "none":
        return train, None
    rows = _Rows(train, data.task == "classification")
    fewest = min(Counter(rows.labels).values())
    if mode == "auto" and fewest < MIN_ROWS_PER_CLASS_FOR_VALIDATION:
        notes.append(
            f"No validation set: the smallest class has {fewest} training rows, under "
            f"{MIN_ROWS_PER_CLASS_FOR_VALIDATION}; training takes a fixed number of steps."
        )
        return train, None
    fraction = VALIDATION_FRACTION if mode == "auto" else data.validation.fraction
    chosen = _choose_rows(rows, fraction, seed, "validation")
    if not chosen and mode == "fraction":
        raise InputError(
            f"data.validation.fraction {fraction} of {len(train)} training rows leaves no "
            "validation row, or a class without training rows.",
            remedy="Change the fraction, add seeds, or set data.validation.mode: none.",
        )
    return _divide(train, chosen) if chosen else (train, None)


def _choose_rows(rows: _Rows, fraction: float, seed: int, side: str) -> list[int]:
    """Rows to hold out: of every class its share, whole units, at least one row of each left.

    Units come in the order of their hashes; one is taken where it brings the classes nearer to
    their shares. With single rows this is the lowest hashes of each class.
    """
    totals = Counter(rows.labels)
    missing = Counter({label: int(fraction * count + 0.5) for label, count in totals.items()})
    left = Counter(totals)
    chosen: list[int] = []
    for unit in sorted(rows.rows_by_unit, key=lambda unit: _hash_unit(seed, side, unit)):
        members = rows.rows_by_unit[unit]
        counts = Counter(rows.labels[row] for row in members)
        gain = sum(
            abs(missing[label]) - abs(missing[label] - count) for label, count in counts.items()
        )
        if gain > 0 and all(left[label] > count for label, count in counts.items()):
            chosen += members
            missing.subtract(counts)
            left.subtract(counts)
    return sorted(chosen)


def _hash_unit(seed: int, side: str, unit: str) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{side}\x1f{unit}".encode()).digest()


def _divide(dataset: Dataset, chosen: Sequence[int]) -> tuple[Dataset, Dataset]:
    held_out = set(chosen)
    rest = [row for row in range(len(dataset)) if row not in held_out]
    return dataset.select(rest), dataset.select(chosen)


def _find_units(dataset: Dataset) -> list[str]:
    """For each row a name that it shares with all rows that must be on its side.

    Rows are tied by a common group or a common normalised input, through other rows too; the
    name is the smallest of those that are tied, so that it does not depend on the rows' order.
    """
    parents: dict[str, str] = {}

    def find(name: str) -> str:
        parents.setdefault(name, name)
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    names = [digest.hex() for digest in digest_inputs(dataset)]
    for name, group in zip(names, dataset["group"][:], strict=True):
        low, high = sorted((find(name), find(f"group {group}" if group else name)))
        parents[high] = low
    return [find(name) for name in names]
