"""Label consistency by a named judge, where the model that wrote the rows is not trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.filters.asked_consistency import AskedConsistencyFilter
from loam_runtime.synthesis.filters.base import Ask, Verdict

if TYPE_CHECKING:
    from loam_runtime.synthesis.filters.consistency import ConsistencyFilter


class FallbackConsistencyFilter:
    """Judges by the first of two that the seeds show to be trustworthy; else drops nothing.

    Args:
        own: the model that wrote the rows. One that scores labels has been measured before, and is
            not trusted: if it were, it would need no other.
        named: the judge that the job names; measured only where `own` is not trusted.
    """

    name = "consistency"

    def __init__(
        self, own: AskedConsistencyFilter | ConsistencyFilter, named: AskedConsistencyFilter
    ) -> None:
        self._own = own
        self._named = named
        self._used = named

    async def measure(self, ask: Ask) -> None:
        """See `AskedFilter`.

        Raises:
            BudgetError: the budget ended before it was measured.
        """
        if isinstance(self._own, AskedConsistencyFilter):
            await self._own.measure(ask)
            if self._own.is_trusted:
                self._used = self._own
                return
        await self._named.measure(ask)

    async def judge(self, rows: Sequence[Example], ask: Ask) -> list[Verdict]:
        """See `AskedFilter`."""
        return await self._used.judge(rows, ask)

    def describe(self) -> dict[str, object]:
        """See `AskedFilter`. `instead_of`: what was measured of the model that wrote the rows."""
        told = self._used.describe()
        if self._used is self._own or "note" not in told:
            return told
        before = self._own.describe()
        return {**told, "instead_of": before, "note": f"{before['note']} {told['note']}"}
