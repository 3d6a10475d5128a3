"""Asks a teacher: concurrently, never twice for the same answer, within the budget."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Sequence

from loam_runtime.errors import BudgetError, LoamError, TeacherError
from loam_runtime.observability.monitor import NullMonitor, StageMonitor
from loam_runtime.synthesis.budget import Amount, BudgetLedger, PriceList
from loam_runtime.synthesis.exchange import Respondent, TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.faults import AttemptFailed, TeacherRefused
from loam_runtime.synthesis.journal import Journal, Receipt
from loam_runtime.synthesis.metered_calls import MeteredCalls
from loam_runtime.synthesis.pacing import RetryPolicy
from loam_runtime.synthesis.teachers import Teacher
from loam_runtime.synthesis.usage import Tally, Usage

logger = logging.getLogger(__name__)

Answers = list[TeacherAnswer | None]
# Of each limit of the budget, for questions beside its purpose.
ASIDE_SHARE = 0.05


class TeacherClient:
    """Brings requests to a teacher and answers back.

    Args:
        teacher: who answers.
        journal: open; what it knows is not asked again.
        budget: the hard stop.
        prices: of the teacher's tokens, where they are known.
        policy: when to try again and when to give up.
        monitor: told of every answer.
        respondent: what metrics and errors call it.
    """

    def __init__(
        self,
        teacher: Teacher,
        journal: Journal,
        budget: BudgetLedger,
        *,
        prices: PriceList | None = None,
        policy: RetryPolicy | None = None,
        monitor: StageMonitor | None = None,
        respondent: Respondent = "teacher",
    ) -> None:
        self.prices = prices or PriceList()
        self._teacher = teacher
        self._journal = journal
        self._budget = budget
        self._policy = policy or RetryPolicy()
        self._tally = Tally(monitor or NullMonitor(), respondent)
        self._who = respondent
        self._calls = MeteredCalls(teacher, journal, budget, self.prices, self._policy, self._tally)
        self._has_told_refusal = False
        self._failure: LoamError | None = None
        self._is_stopping = asyncio.Event()

    @property
    def usage(self) -> Usage:
        """What was asked for, in this start of the run."""
        return self._tally.usage

    @property
    def spent(self) -> Amount:
        """By the run, over all its starts."""
        return self._budget.spent

    async def ask_many(
        self,
        requests: Sequence[TeacherRequest],
        on_answer: Callable[[TeacherRequest, TeacherAnswer], None] | None = None,
    ) -> Answers:
        """All answers, in the order of the requests; None where every try failed.

        Equal requests are asked once. Batches are cut from the whole list, answered requests
        included, so that a run that is killed and started again generates with the same batches.

        Args:
            on_answer: called as each answer is durable, in any order, once for equal requests.

        Raises:
            BudgetError: the budget is spent; what was open has been waited for and kept.
            CredentialsError, TeacherError: the teacher refuses, or is down.
        """
        self._calls.health.resume()
        distinct = list(dict.fromkeys(requests))
        size = self._teacher.batch_size
        batches = [distinct[start : start + size] for start in range(0, len(distinct), size)]
        tasks = [asyncio.create_task(self._ask_batch(batch, on_answer)) for batch in batches]
        watch = asyncio.create_task(self._cancel_on_failure(tasks))
        try:
            parts = await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            if self._failure is None:
                raise
            parts = []
        finally:
            watch.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._failure is not None:
            raise self._failure
        answers = dict(zip(distinct, itertools.chain(*parts), strict=True))
        return [answers[request] for request in requests]

    async def ask_while_paid(self, requests: Sequence[TeacherRequest]) -> Answers:
        """What `ask_many` returns, with None also for what the budget did not reach.

        For questions about rows that are there already; the next one for new rows meets the spent
        budget itself.
        """
        answers: dict[TeacherRequest, TeacherAnswer] = {}
        with contextlib.suppress(BudgetError):
            await self.ask_many(requests, answers.__setitem__)
        return [answers.get(request) for request in requests]

    async def ask_aside(self, requests: Sequence[TeacherRequest]) -> Answers:
        """What `ask_while_paid` returns, for questions that the budget is not there for.

        Only the first ones are asked, as many as take `ASIDE_SHARE` of the budget at worst. Where
        tries that failed spend what was left of it, that ends them and nothing else: what is asked
        next may be in the journal.
        """
        worst = [self.prices.reserve(request) for request in requests]
        num_asked = self._budget.count_within(worst, ASIDE_SHARE)
        answers = await self.ask_while_paid(requests[:num_asked])
        if isinstance(self._failure, BudgetError):
            self._failure = None
            self._is_stopping.clear()
            self._budget.reopen()
        return [*answers, *[None] * (len(requests) - num_asked)]

    async def ask(self, request: TeacherRequest) -> TeacherAnswer | None:
        """One answer; see `ask_many`. Returns None also once the client is stopping."""
        return (await self._ask_batch([request], None))[0]

    async def _cancel_on_failure(self, tasks: Sequence[asyncio.Task]) -> None:
        """End open requests when the teacher fails; a spent budget lets them finish."""
        await self._is_stopping.wait()
        if not isinstance(self._failure, BudgetError):
            for task in tasks:
                task.cancel()

    async def _ask_batch(
        self,
        requests: Sequence[TeacherRequest],
        on_answer: Callable[[TeacherRequest, TeacherAnswer], None] | None,
    ) -> Answers:
        keys = [self._compute_key(request) for request in requests]
        known = {key: self._journal.find(key) for key in keys}
        missing = [i for i, key in enumerate(keys) if known[key] is None]
        self._note_reused(len(requests) - len(missing))
        if missing:
            fresh = await self._ask_in_parts(
                [requests[i] for i in missing], [keys[i] for i in missing]
            )
            known.update({keys[i]: made for i, made in zip(missing, fresh, strict=True)})
        answers = [known[key] for key in keys]
        for request, answer in zip(requests, answers, strict=True):
            if answer is not None and on_answer is not None:
                on_answer(request, answer)
        return answers

    def _compute_key(self, request: TeacherRequest) -> str:
        return request.compute_key(self._teacher.model, self._teacher.endpoint)

    async def _ask_in_parts(
        self, requests: Sequence[TeacherRequest], keys: Sequence[str]
    ) -> Answers:
        """One call, or several where the budget does not hold the worst case of all at once."""
        answers: Answers = []
        while len(answers) < len(requests):
            start = len(answers)
            answers += await self._try_until_answered(requests[start:], keys[start:])
        return answers

    async def _try_until_answered(
        self, requests: Sequence[TeacherRequest], keys: Sequence[str]
    ) -> Answers:
        """Answers to the first requests, to as many as one call took; None for those given up."""
        num_failures = num_attempts = 0
        await self._pause(max(self._journal.find_wait_seconds(key) for key in keys))
        while not self._is_stopping.is_set():
            try:
                async with self._calls.limit.slot(priority=-num_attempts):
                    await self._calls.health.await_turn()
                    receipts = await self._calls.make(requests, keys, self._raise_if_stopping)
                # Outside the slot: the next request need not wait for this one's disk.
                return await self._keep(receipts)
            except AttemptFailed as failure:
                is_new = not (num_attempts or failure.is_rate_limit or failure.is_up)
                self._calls.health.record_failure(failure.reason, is_first=is_new)
                num_attempts += 1
                # Refused for load, or in an outage: the fault is not the request's.
                num_failures += failure.is_charged and not self._calls.health.is_open
                if not self._may_try_again(failure, num_failures):
                    self._tally.add_given_up(len(requests))
                    break
                await self._pause(self._policy.choose_delay(failure, num_attempts))
                self.usage.retries += 1
            except TeacherRefused as refusal:
                if not refusal.is_final:
                    self._give_up_refused(refusal)
                    break
                self._stop(refusal.error)
            except LoamError as error:
                self._stop(error)
        return [None] * len(requests)

    async def _keep(self, made: Sequence[Receipt | None]) -> Answers:
        """Hand answers out once they are durable."""
        receipts = [receipt for receipt in made if receipt is not None]
        await self._journal.record_answers(receipts)
        self._tally.add_answers([receipt.answer for receipt in receipts])
        return [receipt and receipt.answer for receipt in made]

    def _note_reused(self, num_answers: int) -> None:
        self._tally.add_reused(num_answers)
        if num_answers:
            self._calls.refusals.record_answer()

    def _give_up_refused(self, refusal: TeacherRefused) -> None:
        self._tally.add_given_up(1)
        if not self._has_told_refusal:
            self._has_told_refusal = True
            logger.warning("a request is given up, others go on: %s", refusal.error.message)

    def _may_try_again(self, failure: AttemptFailed, num_failures: int) -> bool:
        if failure.retry_after_seconds > self._policy.patience_seconds:
            self._stop(
                TeacherError(
                    f"The {self._who} at {self._teacher.endpoint} limits the rate and asks "
                    f"to come back in {failure.retry_after_seconds:.0f} s.",
                    remedy="Run again then: answers so far are kept.",
                )
            )
        elif self._calls.health.is_down:
            self._stop(self._describe_down())
        return num_failures < self._policy.max_tries

    def _describe_down(self) -> TeacherError:
        health = self._calls.health
        return TeacherError(
            f"The {self._who} at {self._teacher.endpoint} has given no answer for "
            f"{health.silent_seconds:.0f} s; last failure: {health.last_reason}.",
            remedy="Check that the address is right and the server is up, then run again: answers "
            "so far are kept.",
        )

    def _stop(self, error: LoamError) -> None:
        """Send nothing more; the first reason is the one that is told."""
        if self._failure is None:
            self._failure = error
        self._is_stopping.set()
        self._calls.health.release()

    def _raise_if_stopping(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not beyond the moment the client stops."""
        if seconds <= 0:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_stopping.wait(), seconds)
