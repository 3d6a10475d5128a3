"""Who can be asked in one run: the teacher and, where a job names one, the judge of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from loam_runtime.synthesis.budget import BudgetLedger
from loam_runtime.synthesis.client import Answers, TeacherClient
from loam_runtime.synthesis.exchange import Respondent, TeacherRequest
from loam_runtime.synthesis.journal import Journal


class Panel:
    """Clients that share a journal and a budget; each has its own pace, health and prices.

    Args:
        teacher: writes the rows.
        judge: None where the teacher alone is asked.
        budget: the one that both are paid from.
        journal: where the answers of both are kept.
    """

    def __init__(
        self,
        teacher: TeacherClient,
        judge: TeacherClient | None,
        budget: BudgetLedger,
        journal: Journal,
    ) -> None:
        self.teacher = teacher
        self._judge = judge
        self._budget = budget
        self._journal = journal

    async def ask_many(
        self, requests: Sequence[TeacherRequest], respondent: Respondent = "teacher"
    ) -> Answers:
        """See `TeacherClient.ask_many`."""
        return await self._find(respondent).ask_many(requests)

    async def ask_while_paid(
        self, requests: Sequence[TeacherRequest], respondent: Respondent = "teacher"
    ) -> Answers:
        """See `TeacherClient.ask_while_paid`."""
        return await self._find(respondent).ask_while_paid(requests)

    async def ask_aside(
        self, requests: Sequence[TeacherRequest], respondent: Respondent = "teacher"
    ) -> Answers:
        """See `TeacherClient.ask_aside`."""
        return await self._find(respondent).ask_aside(requests)

    async def secure_answers(self) -> None:
        """Have all answers so far in object storage, before they are worked on."""
        await self._journal.copy_to_store()

    def describe_usage(self) -> dict[str, float]:
        """Usage of this start, of both together, and the run's spending over all its starts."""
        usage: dict[str, float] = asdict(self.teacher.usage)
        if self._judge is not None:
            own = asdict(self._judge.usage)
            usage = {name: value + own[name] for name, value in usage.items()}
            usage["judge_requests"] = own["requests"]
        spent = self._budget.spent
        usage |= {"spent_requests": spent.requests, "spent_tokens": spent.tokens}
        is_priced = any(one.prices for one in (self.teacher, self._judge) if one is not None)
        return {**usage, "spent_cost": spent.money} if is_priced else usage

    def _find(self, respondent: Respondent) -> TeacherClient:
        if respondent == "teacher":
            return self.teacher
        assert self._judge is not None, "a filter asks a judge that the run does not have"
        return self._judge
