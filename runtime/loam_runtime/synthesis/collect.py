"""The top-up loop: draw, read, filter, and draw again for what is missing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from loam_runtime.data.examples import Example
from loam_runtime.errors import BudgetError, TeacherError
from loam_runtime.observability.monitor import NullMonitor, StageMonitor
from loam_runtime.synthesis.analysis.gaps import RARE_SHARE
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.filters.base import FilterChain
from loam_runtime.synthesis.panel import Panel
from loam_runtime.synthesis.reach import ENOUGH_LABEL_SHARE, Shortage, find_shortages
from loam_runtime.synthesis.row_tasks import RowAnswers
from loam_runtime.synthesis.strategies.base import Draw, Rejection, Strategy, TaskBrief

PILOT_DRAWS = 32  # after so many without one usable row, no more are paid for
MAX_DRAWS_PER_WANTED = 20
# With less, a spent budget is a failure: what a training on it would show says little.
ENOUGH_SHARE = 0.5
ROUND_PER_SLOT = 16  # draws of one round for each request that may be open


@dataclass(slots=True)
class Collection:
    """What the loop has gathered.

    Attributes:
        kept: rows that passed all filters, round by round in the order of their draws; last in a
            round those that passed at second sight, see `FilterChain`.
        malformed: answers, or parts of them, that were no rows.
        draws: requests made (answered or given up), by label.
        num_rows: rows read from answers, before any filter.
        num_unanswered: draws whose every try failed.
        strategy: who wrote the requests.
        stopped: why the loop ended early, or "".
        explained: the rationales of the seeds, where they were asked for.
    """

    strategy: Strategy

    kept: list[Example] = field(default_factory=list)
    malformed: list[Rejection] = field(default_factory=list)
    draws: Counter[str] = field(default_factory=Counter)
    num_rows: int = 0
    num_unanswered: int = 0
    stopped: str = ""
    explained: RowAnswers | None = None

    def describe(self) -> dict[str, object]:
        """The counts, for the report."""
        return {
            "draws": self.draws.total(),
            "draws_by_class": {label: n for label, n in sorted(self.draws.items()) if label},
            "unanswered": self.num_unanswered,
            "malformed": len(self.malformed),
            "rows": self.num_rows,
            **({"explained": self.explained.describe()} if self.explained else {}),
        }


class Collector:
    """Collects rows up to quotas by label.

    Rounds end when all their answers are in, and rows are read in the order of their draws. So
    the rows kept depend on the answers alone, not on when they came.

    Args:
        strategy: writes requests, reads answers.
        panel: asks the teacher, and the judge where there is one.
        chain: filters the rows; each is judged once.
        quotas: rows wanted by label; the one name "" for a task without labels.
        max_requests: of the budget; 0 for no limit.
        monitor: told of answers and kept rows.
    """

    def __init__(
        self,
        strategy: Strategy,
        panel: Panel,
        chain: FilterChain,
        quotas: Mapping[str, int],
        *,
        max_round: int,
        max_requests: int = 0,
        monitor: StageMonitor | None = None,
    ) -> None:
        self._strategy = strategy
        self._panel = panel
        self._chain = chain
        self._quotas = dict(quotas)
        self._max_round = max(PILOT_DRAWS, max_round)
        self._max_requests = max_requests
        self._monitor = monitor or NullMonitor()
        self._kept: Counter[str] = Counter()
        self._result = Collection(strategy)

    async def collect(self) -> Collection:
        """Draw until every quota is met, its label is exhausted, or the budget is spent.

        Raises:
            BudgetError: it was spent before there were rows enough: half of those wanted, and a
                quarter of each label's.
            CredentialsError, TeacherError: from the client.
            TeacherError: there were answers, and not one row could be used; or a label cannot
                come to a quarter of its quota while others do, which is told as soon as it shows.
        """
        self._monitor.start(sum(self._quotas.values()), "rows")
        try:
            await self._chain.learn(self._panel.ask_aside)
            await self._chain.measure(self._panel.ask_many)
            while plan := self._plan_round():
                await self._run_round(plan)
                self._check_balance()
        except BudgetError as error:
            if not self._has_enough():
                raise
            self._result.stopped = str(error)
            self._monitor.log("synthesis stopped: the budget is spent", kept=self._kept.total())
        if not self._result.kept:
            raise self._describe_failure()
        return self._result

    def _plan_round(self) -> list[str]:
        """The labels of the next round's draws, label by label in turn."""
        num_draws = self._result.draws.total()
        if num_draws >= PILOT_DRAWS and not self._result.num_rows:
            return []
        wanted = {label: self._count_draws(label) for label in self._quotas}
        rounds = max(wanted.values(), default=0)
        turns = [label for turn in range(rounds) for label in wanted if turn < wanted[label]]
        return turns[: self._max_round if num_draws else PILOT_DRAWS]

    def _count_draws(self, label: str) -> int:
        """Draws that are expected to fill a label's quota, at the yield seen so far."""
        missing = self._quotas[label] - self._kept[label]
        done = self._result.draws[label]
        per_draw = self._strategy.rows_per_draw
        most = self._limit_draws(label)
        if missing <= 0 or done >= most or (done >= 2 * PILOT_DRAWS and not self._kept[label]):
            return 0
        # One draw that yields all it should is counted before the first: the pilot is not larger
        # than a perfect teacher needs.
        rate = (self._kept[label] + per_draw) / (done + 1)
        return min(math.ceil(missing / rate), most - done)

    def _limit_draws(self, label: str) -> int:
        """Draws of a label after which no more are paid for."""
        wanted = MAX_DRAWS_PER_WANTED * self._quotas[label] / self._strategy.rows_per_draw
        return PILOT_DRAWS + math.ceil(wanted)

    def _check_balance(self) -> None:
        """Fail as soon as a label is out of reach and another one is not."""
        draws = self._result.draws
        if len(self._quotas) < 2 or draws.total() < PILOT_DRAWS or not self._result.kept:
            return
        left = self._count_draws_left()
        short = find_shortages(self._quotas, self._kept, draws, left, self._strategy.rows_per_draw)
        if 0 < len(short) < len(self._quotas):
            raise self._describe_imbalance(short)

    def _count_draws_left(self) -> dict[str, float]:
        """Draws that each label may still get, were the rest of the budget all its own."""
        paid = self._panel.teacher.spent.requests
        budget = self._max_requests - paid if self._max_requests else math.inf
        limits = {
            label: self._limit_draws(label) - self._result.draws[label]
            if self._count_draws(label)
            else 0  # filled, or given up
            for label in self._quotas
        }
        return {label: max(min(limit, budget), 0) for label, limit in limits.items()}

    async def _run_round(self, labels: list[str]) -> None:
        draws = self._compose_draws(labels)
        answers: dict[int, TeacherAnswer] = {}

        def take(request: TeacherRequest, answer: TeacherAnswer) -> None:
            answers[request.draw] = answer
            self._monitor.advance(0, answered=request.draw + 1)

        try:
            await self._panel.teacher.ask_many([draw.request for draw in draws], take)
        except BudgetError:
            # What was answered before the stop is paid for: it is used.
            await self._read([draw for draw in draws if draw.request.draw in answers], answers)
            raise
        await self._read(draws, answers)

    async def _read(self, draws: list[Draw], answers: Mapping[int, TeacherAnswer]) -> None:
        rows = []
        for draw in draws:
            self._result.draws[draw.label] += 1
            answer = answers.get(draw.request.draw)
            if answer is None:
                self._result.num_unanswered += 1
                continue
            reading = self._strategy.read(draw, answer)
            rows += reading.rows
            self._result.malformed += reading.rejected
        await self._keep(rows)

    def _has_enough(self) -> bool:
        filled = {label: min(self._kept[label], quota) for label, quota in self._quotas.items()}
        return sum(filled.values()) >= ENOUGH_SHARE * sum(self._quotas.values()) and all(
            filled[label] >= ENOUGH_LABEL_SHARE * quota for label, quota in self._quotas.items()
        )

    def _compose_draws(self, labels: list[str]) -> list[Draw]:
        start, turns = self._result.draws.total(), Counter(self._result.draws)
        draws = []
        for place, label in enumerate(labels):
            draws.append(self._strategy.compose(start + place, label, turns[label]))
            turns[label] += 1
        return draws

    async def _keep(self, rows: list[Example]) -> None:
        self._result.num_rows += len(rows)
        await self._panel.secure_answers()
        passed = self._chain.apply(rows)
        kept = await self._chain.apply_asked(passed, self._panel.ask_while_paid)
        useful = 0
        for row in kept:
            label = row.target if row.target in self._quotas else ""
            useful += self._kept[label] < self._quotas[label]
            self._kept[label] += 1
        self._result.kept += kept
        self._monitor.count("rows", len(rows), outcome="generated")
        self._monitor.count("rows", len(kept), outcome="kept")
        self._monitor.count("rows", len(rows) - len(kept), outcome="rejected")
        self._monitor.advance(useful, kept=len(self._result.kept))

    def _describe_imbalance(self, short: list[Shortage]) -> TeacherError:
        labels = {item.label for item in short}
        listed = "; ".join(
            f'"{item.label}" has {item.kept} of {item.quota} rows after {item.num_draws} requests '
            f"and can come to {item.most} at most"
            for item in short
        )
        return TeacherError(
            f"The set would be badly unbalanced: {listed}. "
            f"Most often: {self._count_reasons(labels)}.",
            remedy="Give these labels more or clearer seeds, say in data.description what they "
            "mean, use a stronger teacher, or raise synthesis.budget. Every answer so far is kept.",
        )

    def _count_reasons(self, labels: Set[str] | None = None) -> str:
        """The three commonest reasons of rejection, of these labels or of all."""
        rejections = [*self._result.malformed, *self._chain.rejected]
        reasons = Counter(
            f"{item.filter}: {item.reason}"
            for item in rejections
            if labels is None or item.row.target in labels
        )
        return "; ".join(f"{it} ({n})" for it, n in reasons.most_common(3)) or "no answer"

    def _describe_failure(self) -> TeacherError:
        return TeacherError(
            f"The teacher was asked {self._result.draws.total()} times and not one row could be "
            f"used. Most often: {self._count_reasons()}.",
            remedy="Try the teacher by hand with data.description as it is, use a stronger model, "
            "or raise synthesis.sampling.maxTokens if answers are cut off.",
        )


def share_quotas(target_count: int, brief: TaskBrief, *, is_even: bool = False) -> dict[str, int]:
    """Rows wanted by label: the seeds' shares, rounded by largest remainder.

    A rare label counts as if it had half an even share of the seeds: a label of two seeds in a
    hundred would otherwise stay as good as unlearned, however many rows are written.

    Args:
        is_even: as many of every label, as in-context synthesis has it.
    """
    labels = brief.labels
    floor = RARE_SHARE * len(brief.seeds) / len(labels)
    counts = {label: floor if is_even else len(brief.list_seeds(label)) for label in labels}
    sizes = {label: max(floor, count) for label, count in counts.items()}
    total = sum(sizes.values())
    exact = {label: target_count * sizes[label] / total for label in labels}
    quotas = {label: int(exact[label]) for label in labels}
    by_remainder = sorted(labels, key=lambda label: (quotas[label] - exact[label], label))
    for label in by_remainder[: target_count - sum(quotas.values())]:
        quotas[label] += 1
    return quotas
