"""Rows that two sides of the data share, which would make a verdict worthless."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from loam_runtime.data.normalize import digest_texts
from loam_runtime.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

_NUM_SHOWN = 10


def digest_inputs(dataset: Dataset) -> Iterator[bytes]:
    """One digest a row, equal for rows that give the model the same after normalisation.

    What counts is the input with its context; of plain text, which has no input, the text.
    """
    for batch in dataset.select_columns(["input", "target", "context"]).iter(batch_size=1000):
        for text, target, context in zip(*batch.values(), strict=True):
            yield digest_texts(text or target, *(turn["content"] for turn in context))


def check_overlap(train: Dataset, given: Dataset, side: str) -> None:
    """Refuse rows of `given` whose input is in `train` too, equal after normalisation.

    Raises:
        InputError: names the rows of both sides, the first ten and how many there are.
    """
    train_sources = dict(zip(digest_inputs(train), train["source"][:], strict=True))
    pairs = [
        (source, train_sources[digest])
        for digest, source in zip(digest_inputs(given), given["source"][:], strict=True)
        if digest in train_sources
    ]
    if pairs:
        raise InputError(
            f"{len(pairs)} rows of the {side} set are in the training data too: "
            f"{_list_pairs(pairs)}.",
            remedy="Take them out of one of the two.",
        )


def check_groups(train: Dataset, given: Dataset, side: str) -> None:
    """Refuse groups with rows on both sides.

    Raises:
        InputError: names the groups.
    """
    common = sorted((set(train["group"][:]) & set(given["group"][:])) - {""})
    if common:
        raise InputError(
            f"{len(common)} groups have rows in the training data and in the {side} set: "
            f"{common[:_NUM_SHOWN]}.",
            remedy="Move all rows of a group to one side.",
        )


def _list_pairs(pairs: Sequence[tuple[str, str]]) -> str:
    shown = [f"{source} is {train_source}" for source, train_source in islice(pairs, _NUM_SHOWN)]
    return ", ".join(shown) + (", ..." if len(pairs) > _NUM_SHOWN else "")
