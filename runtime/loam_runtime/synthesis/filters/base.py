"""What a filter is, and the chain of them with its funnel of counts.

Most filters judge by themselves; some ask the teacher, or a judge. The latter are dear, so they
come last and are asked about rows that every other one let pass.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.exchange import Respondent, TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.strategies.base import Rejection


class Ask(Protocol):
    """Asks the teacher, or the judge that the job names."""

    def __call__(
        self, requests: Sequence[TeacherRequest], respondent: Respondent = "teacher"
    ) -> Awaitable[Sequence[TeacherAnswer | None]]:
        """Answers in the order of the requests, None where there is none."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a filter says about one row.

    Attributes:
        reason: to drop it; "" keeps it.
        score: how good it is, where the filter says so.
        copies: id of the earlier row that this one says again; "" for a seed, or none.
    """

    reason: str = ""
    score: float | None = None
    copies: str = ""


class Filter(Protocol):
    """Judges rows one by one; may remember those it has let pass."""

    name: str

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """One verdict per row, in order."""

    def describe(self) -> dict[str, object]:
        """What the report says about the filter itself: whether it is trusted, and why."""


@runtime_checkable
class RememberingFilter(Filter, Protocol):
    """A filter that drops what says again what an earlier row said."""

    def forget(self, rows: Sequence[Example]) -> None:
        """Let these be said again: they passed here, and were dropped by a later filter."""


@runtime_checkable
class LearningFilter(Filter, Protocol):
    """A filter that learns before it judges, and may ask the teacher for what it learns from.

    Attributes:
        asks: whether it has any question.
    """

    asks: bool

    async def learn(self, ask: Ask) -> None:
        """Learn, before the first row is judged.

        Args:
            ask: answers None for what is not answered, or not worth its part of the budget.
        """


class AskedFilter(Protocol):
    """Judges rows by what the teacher, or a judge, says of them."""

    name: str

    async def measure(self, ask: Ask) -> None:
        """Find out how far the filter can be trusted, before the first row is paid for.

        Args:
            ask: raises `BudgetError` where the budget is spent.
        """

    async def judge(self, rows: Sequence[Example], ask: Ask) -> list[Verdict]:
        """One verdict per row, in order."""

    def describe(self) -> dict[str, object]:
        """See `Filter`."""


@dataclass(slots=True)
class FunnelStep:
    """Rows that came to one filter and rows that passed, in all and by class."""

    seen: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)

    def describe(self) -> dict[str, object]:
        """Counts and retention; classes only where there are several."""
        return {
            "seen": self.seen.total(),
            "passed": self.passed.total(),
            "retention": _divide(self.passed.total(), self.seen.total()),
            "retention_by_class": {
                label: _divide(self.passed[label], count)
                for label, count in sorted(self.seen.items())
                if label
            },
        }


class FilterChain:
    """Rows go through the filters in order; those dropped by one do not reach the next.

    A row that was dropped for saying again what another one says is looked at once more where a
    later filter drops that other one: else the first of two would take the second along, however
    good it is. Once more and not until none is left, so that a hundred copies of a bad row are
    judged two hundred times and not five thousand.

    Args:
        filters: in order, cheapest first.
        asked: those that ask the teacher, in order.
        is_classification: whether the funnel is also kept by class.
    """

    def __init__(
        self,
        filters: Sequence[Filter],
        asked: Sequence[AskedFilter] = (),
        *,
        is_classification: bool,
    ) -> None:
        self._filters = tuple(filters)
        self._asked = tuple(asked)
        self._is_classification = is_classification
        self._funnel = {item.name: FunnelStep() for item in (*filters, *asked)}
        self._copies: list[_Copy] = []
        self.rejected: list[Rejection] = []
        self.scores: dict[str, float] = {}

    def apply(self, rows: Sequence[Example]) -> list[Example]:
        """The rows that pass, in order, those that passed at second sight last.

        The others join `rejected` with reason and score. The scores of rows that pass (of the last
        filter that gives any) are in `scores`, by id.
        """
        self._copies = []
        passed = self._run(rows, {})
        second = self._release(rows, passed)
        late = self._run([], second)
        self._forget(itertools.chain(*second.values()), late)
        return [*passed, *late]

    @property
    def asks(self) -> bool:
        """Whether any filter has a question to the teacher."""
        return bool(self._asked) or any(item.asks for item in self._list_learners())

    async def learn(self, ask: Ask) -> None:
        """Let those learn that do; once, before the first row."""
        for item in self._list_learners():
            await item.learn(ask)

    async def measure(self, ask: Ask) -> None:
        """Find out how far those that ask can be trusted; once, before the first row."""
        for item in self._asked:
            await item.measure(ask)

    async def apply_asked(self, rows: Sequence[Example], ask: Ask) -> list[Example]:
        """What `apply` does with the rows that it let pass, by the filters that ask."""
        kept = await self._run_asked(rows, ask)
        second = self._release(rows, kept)
        late = await self._run_asked(self._run([], second), ask)
        self._forget(itertools.chain(*second.values()), late)
        return [*kept, *late]

    def describe(self) -> dict[str, object]:
        """The funnel, filter by filter, each with what it says about itself."""
        return {
            item.name: {**self._funnel[item.name].describe(), **item.describe()}
            for item in (*self._filters, *self._asked)
        }

    def _list_learners(self) -> list[LearningFilter]:
        return [item for item in self._filters if isinstance(item, LearningFilter)]

    def _run(
        self, rows: Sequence[Example], second: Mapping[str, Sequence[Example]]
    ) -> list[Example]:
        """The rows that pass.

        Args:
            second: rows to be looked at once more, by the filter that has dropped them.
        """
        for item in self._filters:
            rows = [*rows, *second.get(item.name, ())]
            if rows:
                rows = self._pass(item.name, rows, item.judge(rows))
        return list(rows)

    async def _run_asked(self, rows: Sequence[Example], ask: Ask) -> list[Example]:
        for item in self._asked:
            if not rows:
                break
            rows = self._pass(item.name, rows, await item.judge(rows, ask))
        return list(rows)

    def _release(
        self, judged: Sequence[Example], kept: Sequence[Example]
    ) -> dict[str, list[Example]]:
        """The copies of rows that are not kept after all, by the filter that has dropped them.

        Nothing is left of their being dropped. The other rows that are not kept are forgotten.
        """
        gone = {row.id for row in judged} - {row.id for row in kept}
        # A row that equals the other one, label and all, would fare like it.
        freed = [
            it for it in self._copies if it.copied in gone and it.rejection.row.id != it.copied
        ]
        second: dict[str, list[Example]] = {}
        for it in freed:
            self._funnel[it.rejection.filter].seen[self._get_class(it.rejection.row)] -= 1
            second.setdefault(it.rejection.filter, []).append(it.rejection.row)
        self._forget(judged, [*kept, *itertools.chain(*second.values())])
        if freed:
            lifted = {id(it.rejection) for it in freed}
            self.rejected = [it for it in self.rejected if id(it) not in lifted]
            self._copies = [it for it in self._copies if id(it.rejection) not in lifted]
        return second

    def _forget(self, judged: Iterable[Example], kept: Sequence[Example]) -> None:
        """Later rows may say again what these said, but for those that are kept."""
        ids = {row.id for row in kept}
        gone = [row for row in judged if row.id not in ids]
        for item in self._filters:
            if isinstance(item, RememberingFilter):
                item.forget(gone)

    def _pass(
        self, name: str, rows: Sequence[Example], verdicts: Sequence[Verdict]
    ) -> list[Example]:
        """The rows without a reason to drop them; all of them counted."""
        step, passed = self._funnel[name], []
        for row, verdict in zip(rows, verdicts, strict=True):
            label = self._get_class(row)
            step.seen[label] += 1
            if verdict.reason:
                rejection = Rejection(row, verdict.reason, name, verdict.score)
                self.rejected.append(rejection)
                if verdict.copies:
                    self._copies.append(_Copy(rejection, verdict.copies))
                continue
            step.passed[label] += 1
            passed.append(row)
            if verdict.score is not None:
                self.scores[row.id] = verdict.score
        return passed

    def _get_class(self, row: Example) -> str:
        return row.target if self._is_classification else ""


@dataclass(frozen=True, slots=True)
class _Copy:
    """A row that was dropped for what an earlier one of the same round, `copied`, says."""

    rejection: Rejection
    copied: str


def get_compared_text(row: Example, *, is_classification: bool) -> str:
    """What makes two rows duplicates when it is the same.

    Of a classified row the input without its label: one input has one label, so the second of two
    goes even where the labels differ. Elsewhere input and target: several questions may share one
    passage.
    """
    return row.input if is_classification else f"{row.input}\n{row.target}"


def _divide(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
