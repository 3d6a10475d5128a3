"""One run of the top-up loop with its journal, budget and client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from loam_runtime.data.examples import Example
from loam_runtime.errors import LoamError
from loam_runtime.observability.monitor import NullMonitor, StageMonitor
from loam_runtime.synthesis.budget import BudgetLedger, PriceList
from loam_runtime.synthesis.client import TeacherClient
from loam_runtime.synthesis.collect import ROUND_PER_SLOT, Collection, Collector
from loam_runtime.synthesis.exchange import Respondent
from loam_runtime.synthesis.filters.base import FilterChain
from loam_runtime.synthesis.journal import Journal
from loam_runtime.synthesis.leases import Lease
from loam_runtime.synthesis.pacing import RetryPolicy
from loam_runtime.synthesis.panel import Panel
from loam_runtime.synthesis.provider_batches import BatchTeacher
from loam_runtime.synthesis.row_tasks import RowAnswers, ask_about_rows
from loam_runtime.synthesis.segments import SegmentStore
from loam_runtime.synthesis.strategies.base import SamplingSettings, TaskBrief
from loam_runtime.synthesis.strategies.explaining import SeedExplainer
from loam_runtime.synthesis.strategies.registry import build_strategy
from loam_runtime.synthesis.teachers import Teacher

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Drawing:
    """How rows are drawn.

    Attributes:
        teacher: who writes them.
        strategy: name in the registry.
        sampling: of the teacher's tokens.
        journal_dir: folder of the journal; survives a restart.
        run_id: the run's name in the journal, see `Journal`.
        max_requests, max_tokens, max_cost: budget; 0 for no limit.
        prices: of the teacher's tokens, where they are known.
        label_judge: another model that filters ask about rows; answers to the same journal and
            budget.
        judge_prices: of its tokens, where they are known.
        journal_store: copy of the journal in object storage.
        policy: retries and patience.
        explains: once the rows are there, what is left of the budget buys rationales for the seeds
            that have none.
    """

    teacher: Teacher
    strategy: str
    sampling: SamplingSettings
    journal_dir: Path
    run_id: str
    max_requests: int = 0
    max_tokens: int = 0
    max_cost: float = 0.0
    prices: PriceList = field(default_factory=PriceList)
    label_judge: Teacher | None = None
    judge_prices: PriceList = field(default_factory=PriceList)
    journal_store: SegmentStore | None = None
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    monitor: StageMonitor = field(default_factory=NullMonitor)
    explains: bool = False

    def draw(
        self, brief: TaskBrief, chain: FilterChain, quotas: Mapping[str, int]
    ) -> tuple[Collection, dict[str, float]]:
        """Collect rows up to the quotas; returns them and what the teacher cost.

        Raises:
            BudgetError, CredentialsError, TeacherError: see `Collector.collect`.
        """
        return run_to_end(self._draw(brief, chain, quotas))

    def judge(
        self, rows: Sequence[Example], chain: FilterChain
    ) -> tuple[list[Example], dict[str, float]]:
        """The rows that pass the filters of the chain, and what that cost.

        Raises:
            BudgetError, CredentialsError, TeacherError: from the client.
            InputError: a filter is not trusted and shall then fail.
        """
        return run_to_end(self._judge(rows, chain))

    def explain(self, brief: TaskBrief) -> tuple[RowAnswers, dict[str, float]]:
        """Rationales of the seeds that have none, and what the teacher cost.

        Raises:
            CredentialsError, TeacherError: the teacher refuses, or is down.
        """

        async def work() -> tuple[RowAnswers, dict[str, float]]:
            async with self._open_panel(nullcontext()) as panel:
                return await self._explain(brief, panel), panel.describe_usage()

        return run_to_end(work())

    async def _draw(
        self, brief: TaskBrief, chain: FilterChain, quotas: Mapping[str, int]
    ) -> tuple[Collection, dict[str, float]]:
        teacher = self.teacher
        strategy = build_strategy(self.strategy, brief, self.sampling, is_chat=teacher.is_chat)
        async with self._open_panel(self._take_turn(brief)) as panel:
            collector = Collector(
                strategy,
                panel,
                chain,
                quotas,
                max_round=_measure_round(teacher),
                max_requests=self.max_requests,
                monitor=self.monitor,
            )
            collection = await collector.collect()
            if self.explains:
                collection.explained = await self._explain(brief, panel)
            return collection, panel.describe_usage()

    async def _judge(
        self, rows: Sequence[Example], chain: FilterChain
    ) -> tuple[list[Example], dict[str, float]]:
        async with self._open_panel(nullcontext()) as panel:
            await chain.learn(panel.ask_aside)
            await chain.measure(panel.ask_many)
            kept = await chain.apply_asked(chain.apply(rows), panel.ask_while_paid)
            return kept, panel.describe_usage()

    @asynccontextmanager
    async def _open_panel(self, turn: AbstractAsyncContextManager[object]) -> AsyncIterator[Panel]:
        try:
            # After the turn has come: the journal reads what the one before has left.
            async with turn, Journal(self.journal_dir, self.run_id, self.journal_store) as journal:
                panel = self._seat(journal)
                try:
                    yield panel
                except LoamError as error:
                    error.note_spending(panel.describe_usage())
                    raise
        finally:
            await self.teacher.close()
            if self.label_judge is not None:
                await self.label_judge.close()

    def _seat(self, journal: Journal) -> Panel:
        budget = self._open_budget(journal)

        def connect(teacher: Teacher, prices: PriceList, who: Respondent) -> TeacherClient:
            if isinstance(teacher, BatchTeacher):
                teacher.book = journal
            options = {"prices": prices, "policy": self.policy, "monitor": self.monitor}
            return TeacherClient(teacher, journal, budget, **options, respondent=who)

        judge = self.label_judge and connect(self.label_judge, self.judge_prices, "judge")
        return Panel(connect(self.teacher, self.prices, "teacher"), judge, budget, journal)

    async def _explain(self, brief: TaskBrief, panel: Panel) -> RowAnswers:
        explainer = SeedExplainer(brief, self.sampling)
        explained = await ask_about_rows(panel.teacher, explainer, explainer.list_rows())
        self.monitor.log("seeds explained", **explained.describe())
        return explained

    def _take_turn(self, brief: TaskBrief) -> AbstractAsyncContextManager[object]:
        """Wait for a job that asks the same; a model of our own costs no money twice."""
        teacher = self.teacher
        is_free = teacher.language_model is not None and self.label_judge is None
        if self.journal_store is None or is_free:
            return nullcontext()
        # A strategy of its own: one counts what it has composed.
        strategy = build_strategy(self.strategy, brief, self.sampling, is_chat=teacher.is_chat)
        first = strategy.compose(0, brief.labels[0], 0).request
        name = first.compute_key(teacher.model, teacher.endpoint)
        return Lease(self.journal_store, name, monitor=self.monitor)

    def _open_budget(self, journal: Journal) -> BudgetLedger:
        return BudgetLedger(
            self.max_requests,
            self.max_tokens,
            self.max_cost,
            spent=journal.spent,
        )


def _measure_round(teacher: Teacher) -> int:
    """Draws of one round at most.

    What is drawn next depends on the rounds before: those of the base model are the same however
    many workers it has, and so are its rows.
    """
    is_own = teacher.language_model is not None
    return ROUND_PER_SLOT * teacher.batch_size * (1 if is_own else teacher.concurrency)


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from code that is not async, also inside a running loop (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, thread_name_prefix="loam-synthesis") as pool:
        return pool.submit(asyncio.run, work).result()
