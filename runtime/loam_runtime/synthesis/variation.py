"""The plan of variation: which attributes each row is asked to have.

Stage 2 of the pipeline asks for "controlled variation". Attributes drawn at random leave holes:
of 30 draws over 6 styles, one style is often asked for once and another nine times. Here they
follow from the row's number among those of its label: in every run of n rows, n being the
number of an attribute's values, each value comes exactly once, in an order shuffled anew each
time, so that attributes are not tied to each other. Values with shares of their own (target
languages) follow a low-discrepancy sequence, off their share by about one row at any time.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

_GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples modulo 1 fill the interval most evenly


@dataclass(frozen=True, slots=True)
class Attribute:
    """Something that rows can differ in.

    Attributes:
        name: for the report.
        values: what it can be, as the teacher reads it.
        shares: of the values; empty for equal ones.
    """

    name: str
    values: tuple[str, ...]
    shares: tuple[float, ...] = ()

    def choose(self, number: int, salt: str) -> str:
        """The value of a row.

        Args:
            number: of the row among those that share `salt`, from 0.
        """
        if not self.shares:
            block, place = divmod(number, len(self.values))
            return self.values[_shuffle(len(self.values), f"{salt}/{self.name}/{block}")[place]]
        start = random.Random(f"{salt}/{self.name}").random()
        point = (start + number * _GOLDEN) % 1 * sum(self.shares)
        reached = accumulate(self.shares)
        found = (value for value, end in zip(self.values, reached, strict=True) if point < end)
        return next(found, self.values[-1])


@lru_cache(maxsize=1024)
def _shuffle(count: int, salt: str) -> tuple[int, ...]:
    order = list(range(count))
    random.Random(salt).shuffle(order)
    return tuple(order)


class VariationPlan:
    """Assigns attributes to rows, and keeps count of what became of them.

    Args:
        attributes: names are different.
        random_seed: of the run.
    """

    def __init__(self, attributes: Iterable[Attribute], random_seed: int) -> None:
        self._attributes = list(attributes)
        self._random_seed = random_seed

    def assign(self, label: str, number: int) -> dict[str, str]:
        """The attributes of a label's row with this number, by name."""
        salt = f"{self._random_seed}/{label}"
        return {one.name: one.choose(number, salt) for one in self._attributes}

    def describe(
        self, coverage: Coverage, kept: Iterable[tuple[dict[str, str], int]]
    ) -> dict[str, Any]:
        """For each attribute and value: rows asked for, written and kept, and their median length.

        Args:
            kept: attributes and words of the rows that stay.
        """
        lengths: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for row, num_words in kept:
            for item in row.items():
                lengths[item].append(num_words)
        return {
            one.name: {
                value: {
                    "asked": coverage.asked[one.name, value],
                    "written": coverage.written[one.name, value],
                    "kept": len(lengths[one.name, value]),
                    "median_words": _find_middle(lengths[one.name, value]),
                }
                for value in one.values
            }
            for one in self._attributes
        }


class Coverage:
    """Rows by attribute and value: those asked for, and those written."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.written: Counter[tuple[str, str]] = Counter()

    def add_asked(self, rows: Sequence[dict[str, str]]) -> None:
        """Rows that a request asks for."""
        self.asked.update(item for row in rows for item in row.items())

    def add_written(self, row: dict[str, str]) -> None:
        """A row that was read from an answer."""
        self.written.update(row.items())


def _find_middle(numbers: Sequence[int]) -> int:
    return sorted(numbers)[len(numbers) // 2] if numbers else 0
