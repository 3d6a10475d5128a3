"""Rows that say again, word for word, what a seed or an earlier row has said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loam_runtime.data.examples import Example
from loam_runtime.data.normalize import digest_texts
from loam_runtime.synthesis.filters.base import Verdict, get_compared_text


class ExactDuplicateFilter:
    """Drops a row that equals a seed or an earlier row after normalisation.

    Args:
        seeds: rows that need no second copy.
        is_classification: what is compared, see `get_compared_text`.
    """

    name = "exactDuplicates"

    def __init__(self, seeds: Iterable[Example], *, is_classification: bool) -> None:
        self._is_classification = is_classification
        self._sources = {self._digest(seed): "a seed" for seed in seeds}

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """See `Filter`. Rows that pass are remembered."""
        verdicts = []
        for row in rows:
            digest = self._digest(row)
            known = self._sources.get(digest)
            if known is None:
                self._sources[digest] = row.source
            verdicts.append(Verdict("" if known is None else f"equal to {known}"))
        return verdicts

    def describe(self) -> dict[str, object]:
        """See `Filter`."""
        return {}

    def _digest(self, row: Example) -> bytes:
        return digest_texts(get_compared_text(row, is_classification=self._is_classification))
