"""Questions to the judge of answers: its journal, its budget, and what it said in both orders."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loam_runtime.errors import BudgetError, LoamError
from loam_runtime.evaluation.answer_judge import CHOICE_KEY, REASON_KEY, Opinion, read_opinion
from loam_runtime.steps.spending import add_spending
from loam_runtime.steps.synthesize import connect, locate_answers, locate_journals
from loam_runtime.storage.registry import open_store
from loam_runtime.synthesis.budget import BudgetLedger, PriceList
from loam_runtime.synthesis.client import TeacherClient
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.journal import Journal
from loam_runtime.synthesis.panel import Panel
from loam_runtime.synthesis.parsing import parse_objects
from loam_runtime.synthesis.provider_batches import BatchTeacher

if TYPE_CHECKING:
    from loam_api.evaluation_block import AnswerJudge
    from loam_runtime.observability.monitor import StageMonitor
    from loam_runtime.steps.context import JobContext

Questions = tuple[str, str]  # one about a pair in each order


@dataclass(frozen=True, slots=True)
class Said:
    """What was answered to the two questions about a pair; None where nothing was."""

    answers: tuple[TeacherAnswer | None, TeacherAnswer | None]

    @property
    def opinions(self) -> tuple[Opinion | None, Opinion | None]:
        """What the answers mean."""
        first, second = self.answers
        return _read(first), _read(second)

    @property
    def texts(self) -> list[str | None]:
        """The answers as they came."""
        return [answer.text if answer else None for answer in self.answers]


def _read(answer: TeacherAnswer | None) -> Opinion | None:
    if answer is None:
        return None
    return read_opinion(parse_objects(answer.text, is_complete=answer.is_complete))


class Inquiry:
    """Asks one judge within its budget.

    Attributes:
        is_spent: the budget ended it: some questions were not asked.
    """

    def __init__(self, panel: Panel, max_tokens: int, monitor: StageMonitor) -> None:
        self._panel = panel
        self._max_tokens = max_tokens
        self._monitor = monitor
        self.is_spent = False

    async def ask_both(self, questions: Sequence[Questions]) -> list[Said]:
        """What is said of each pair, pair after pair: a budget that ends leaves few halves.

        Raises:
            CredentialsError, TeacherError: the judge refuses, or is down.
        """
        answers = await self.ask([text for both in questions for text in both])
        return [Said(both) for both in zip(answers[::2], answers[1::2], strict=True)]

    async def ask(self, questions: Sequence[str]) -> list[TeacherAnswer | None]:
        """The answers, in order; None for what got none, or was not reached by the budget.

        Raises:
            CredentialsError, TeacherError: the judge refuses, or is down.
        """
        requests = [self._build(text) for text in questions]
        answers: dict[TeacherRequest, TeacherAnswer] = {}

        def keep(request: TeacherRequest, answer: TeacherAnswer) -> None:
            answers[request] = answer
            self._monitor.advance()

        try:
            await self._panel.teacher.ask_many(requests, keep)
        except BudgetError:
            self.is_spent = True
        return [answers.get(request) for request in requests]

    def describe_usage(self) -> dict[str, float]:
        """Of this start, and (`spent_*`) of the run over all its starts."""
        return self._panel.describe_usage()

    def _build(self, question: str) -> TeacherRequest:
        return TeacherRequest(
            messages=(("user", question),),
            max_tokens=self._max_tokens,
            temperature=0.0,
            row_keys=(REASON_KEY, CHOICE_KEY),
        )


@asynccontextmanager
async def open_inquiry(
    context: JobContext, judge: AnswerJudge, monitor: StageMonitor, before: Mapping[str, float]
) -> AsyncIterator[Inquiry]:
    """The way to the judge, with the run's journal open.

    Args:
        before: what the run had spent on its synthesis: an error says what it cost in all.
    """
    asked = connect(judge.openai)
    journal_dir = locate_journals(context) / "journal"
    store = open_store(locate_answers(context, locate_journals(context)))
    try:
        async with Journal(journal_dir, f"{context.run_key}-judge", store) as journal:
            if isinstance(asked, BatchTeacher):
                asked.book = journal
            budget = _open_budget(judge, journal)
            client = TeacherClient(
                asked,
                journal,
                budget,
                prices=_read_prices(judge),
                monitor=monitor,
                respondent="judge",
            )
            panel = Panel(client, None, budget, journal)
            try:
                yield Inquiry(panel, judge.max_tokens, monitor)
            except LoamError as error:
                error.note_spending(add_spending(context.job.spec, before, panel.describe_usage()))
                raise
    finally:
        await asked.close()


def _open_budget(judge: AnswerJudge, journal: Journal) -> BudgetLedger:
    most = judge.budget
    return BudgetLedger(most.max_requests, most.max_tokens, most.max_cost, spent=journal.spent)


def _read_prices(judge: AnswerJudge) -> PriceList:
    found = judge.openai.find_prices()
    return PriceList(found.prompt, found.completion) if found else PriceList()
