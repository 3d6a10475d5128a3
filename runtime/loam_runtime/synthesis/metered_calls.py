"""One call to a teacher: reserved in the budget, journaled, made, charged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loam_runtime.synthesis.budget import Amount, BudgetLedger, PriceList
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.faults import AttemptFailed, TeacherRefused
from loam_runtime.synthesis.health import Health
from loam_runtime.synthesis.journal import Journal, Receipt
from loam_runtime.synthesis.pacing import AdaptiveLimit, RetryPolicy
from loam_runtime.synthesis.refusals import Refusals
from loam_runtime.synthesis.teachers import Teacher
from loam_runtime.synthesis.usage import Tally


class MeteredCalls:
    """Makes calls and learns from each how fast the teacher bears them and whether it is up.

    When to call, when again and when to end is the client's.

    Args:
        teacher: who answers.
        journal: open.
        budget: the hard stop.
        prices: of the teacher's tokens.
        policy: how long silence is borne.
        tally: what was asked for, in this start of the run.

    Attributes:
        limit: how many calls may be open.
        health: whether the teacher is up.
        refusals: whether it refuses one request or all.
    """

    def __init__(
        self,
        teacher: Teacher,
        journal: Journal,
        budget: BudgetLedger,
        prices: PriceList,
        policy: RetryPolicy,
        tally: Tally,
    ) -> None:
        self.limit = AdaptiveLimit(teacher.concurrency)
        self.health = Health(policy)
        self.refusals = Refusals()
        self._teacher = teacher
        self._journal = journal
        self._budget = budget
        self._prices = prices
        self._tally = tally

    async def make(
        self,
        requests: Sequence[TeacherRequest],
        keys: Sequence[str],
        raise_if_stopping: Callable[[], None],
    ) -> list[Receipt | None]:
        """Make one call, charged with its worst case before it goes out.

        It takes the first requests alone where a batch made before, or the budget, ends there.

        Args:
            raise_if_stopping: called once the budget has room, which may be long after.

        Returns:
            A receipt for each request of the call; None for one that it did not answer.

        Raises:
            AttemptFailed, TeacherRefused: the call's failure.
            BudgetError: not one of the requests fits.
        """
        most = self._journal.count_batched(keys) or len(keys)
        worst = [self._prices.reserve(request) for request in requests[:most]]
        worst = worst[: await self._budget.reserve(worst)]
        requests, keys = requests[: len(worst)], keys[: len(worst)]
        reserved = sum(worst, Amount())
        spent: Amount | None = None
        try:
            raise_if_stopping()
            spent = reserved  # whatever goes wrong from here on may be billed
            for key, request, cost in zip(keys, requests, worst, strict=True):
                self._journal.record_ask(key, request, cost)
            with self.refusals.watch():
                answers = await self._teacher.answer(requests)
            costs = [self._prices.charge(answer) if answer else Amount() for answer in answers]
            spent = sum(costs, Amount())
            self._note_success()
        except AttemptFailed as failure:
            # Before the slot is free again, so that the lower limit already counts.
            self._note_failure(failure)
            if not failure.is_charged:
                spent = None
                for key, cost in zip(keys, worst, strict=True):
                    self._journal.record_refusal(key, cost, failure.retry_after_seconds)
            raise
        except TeacherRefused as refusal:
            # In the slot, so that nothing more goes out until it is known.
            refusal.is_final = refusal.is_final or not await self.refusals.is_alone()
            raise
        finally:
            self._budget.settle(reserved, spent)
            self._tally.add_cost(spent or Amount())
        return [
            self._take(key, answer, reserved, cost)
            for key, answer, reserved, cost in zip(keys, answers, worst, costs, strict=True)
        ]

    def _take(
        self, key: str, answer: TeacherAnswer | None, reserved: Amount, cost: Amount
    ) -> Receipt | None:
        if answer is None:
            self._tally.add_given_up(1)
            self._journal.record_refusal(key, reserved)
            return None
        return Receipt(key, answer, reserved, cost)

    def _note_success(self) -> None:
        self.limit.record_success()
        self.health.record_answer()
        self.refusals.record_answer()

    def _note_failure(self, failure: AttemptFailed) -> None:
        self._tally.add_failure(failure)
        if failure.is_rate_limit:
            self.limit.record_rate_limit()
        if failure.is_up:
            self.health.resume()
