"""What the pipeline hands out: synthetic rows with where they came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loam_runtime.data.examples import Example, to_dataset
from loam_runtime.synthesis.strategies.base import TaskBrief

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, slots=True)
class SyntheticDataset:
    """Synthetic examples, and all that `SyntheticPipeline.filter` needs to judge them.

    Attributes:
        rows: the examples.
        brief: the task they were written for, with its seeds.
        rejected: rows that were not used so far: input, target, reason, filter, score, source.
        usage: requests and tokens of the teacher.
        report: counts, and retention filter by filter and class by class.
    """

    rows: Sequence[Example]
    brief: TaskBrief
    rejected: Sequence[dict[str, object]] = ()
    usage: dict[str, float] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.rows)

    def to_dataset(self) -> Dataset:
        """The rows as a table of examples."""
        return to_dataset(self.rows)
