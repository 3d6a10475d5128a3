"""Rows that give a test row away."""

from __future__ import annotations

from collections.abc import Sequence

from loam_runtime.data.contamination import ContaminationIndex
from loam_runtime.data.examples import Example
from loam_runtime.synthesis.filters.base import Verdict


class ContaminationFilter:
    """Drops a row whose input is, or nearly is, an input of the test set.

    Args:
        test_inputs: what the tested model is given; for plain text, the texts.
    """

    name = "contamination"

    def __init__(self, test_inputs: Sequence[str]) -> None:
        self._index = ContaminationIndex(test_inputs)
        self._num_test_inputs = len(test_inputs)

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """See `Filter`."""
        return [Verdict(self._index.find(row.input or row.target) or "") for row in rows]

    def describe(self) -> dict[str, object]:
        """See `Filter`."""
        return {"test_inputs": self._num_test_inputs}
