"""What a teacher was asked for and what it cost, for the report and the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loam_runtime.observability.monitor import StageMonitor
from loam_runtime.synthesis.budget import Amount
from loam_runtime.synthesis.exchange import Respondent, TeacherAnswer
from loam_runtime.synthesis.faults import AttemptFailed


@dataclass(slots=True)
class Usage:
    """What the teacher was asked for and what it cost, in this start of the run.

    Attributes:
        requests: answered requests.
        reused: answers taken from the journal.
        retries: attempts beyond the first.
        rate_limited: attempts the endpoint refused for load.
        empty: answers without text.
        given_up: requests that failed every try, or that the endpoint alone refused.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reused: int = 0
    retries: int = 0
    rate_limited: int = 0
    empty: int = 0
    given_up: int = 0


class Tally:
    """Counts into a `Usage` and the metrics.

    Args:
        monitor: keeps the metrics.
        respondent: what they call the teacher.
    """

    def __init__(self, monitor: StageMonitor, respondent: Respondent) -> None:
        self.usage = Usage()
        self._monitor = monitor
        self._who = respondent

    def add_reused(self, count: int) -> None:
        """Answers came from the journal."""
        self.usage.reused += count
        if count:
            self._count_requests("cached", count)

    def add_answers(self, answers: Sequence[TeacherAnswer]) -> None:
        """Answers came from the teacher and are durable."""
        usage = self.usage
        for answer in answers:
            usage.requests += 1
            usage.prompt_tokens += answer.prompt_tokens
            usage.completion_tokens += answer.completion_tokens
            usage.empty += not answer.text.strip()
            self._count_tokens("prompt", answer.prompt_tokens)
            self._count_tokens("completion", answer.completion_tokens)
        self._count_requests("ok", len(answers))

    def add_failure(self, failure: AttemptFailed) -> None:
        """An attempt failed."""
        self._count_requests("retried")
        self.usage.rate_limited += failure.is_rate_limit

    def add_given_up(self, count: int) -> None:
        """Requests stay without an answer."""
        self.usage.given_up += count
        self._count_requests("failed", count)

    def add_cost(self, charged: Amount) -> None:
        """Money was charged, for an answer or for an attempt that may be billed."""
        if charged.picos:
            self._monitor.count("teacher_cost", charged.money, respondent=self._who)

    def _count_requests(self, outcome: str, count: int = 1) -> None:
        self._monitor.count("teacher_requests", count, respondent=self._who, outcome=outcome)

    def _count_tokens(self, direction: str, count: int) -> None:
        self._monitor.count("teacher_tokens", count, respondent=self._who, direction=direction)
