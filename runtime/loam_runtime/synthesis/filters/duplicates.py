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
        self._known: dict[bytes, Example | None] = {self._digest(seed): None for seed in seeds}

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """See `Filter`. Rows that pass are remembered."""
        return [self._judge(row) for row in rows]

    def forget(self, rows: Sequence[Example]) -> None:
        """See `RememberingFilter`."""
        for row in rows:
            digest = self._digest(row)
            known = self._known.get(digest)
            if known is not None and known.id == row.id:
                del self._known[digest]

    def describe(self) -> dict[str, object]:
        """See `Filter`."""
        return {}

    def _judge(self, row: Example) -> Verdict:
        known = self._known.setdefault(self._digest(row), row)
        if known is row:
            return Verdict()
        if known is None:
            return Verdict("equal to a seed")
        return Verdict(f"equal to {known.source}", copies=known.id)

    def _digest(self, row: Example) -> bytes:
        return digest_texts(get_compared_text(row, is_classification=self._is_classification))
