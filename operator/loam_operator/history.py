"""The attempts in a status: starting, ending, counting them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from loam_api.finetunejob import FineTuneJobSpec
from loam_api.progress_document import ResultDocument
from loam_api.status import Attempt, FineTuneJobStatus, Progress, Review, Usage
from loam_operator.decision import Launch
from loam_operator.failures import FAILURES_BY_NAME, Failure
from loam_operator.judge import Verdict
from loam_operator.observed import RayJobView
from loam_operator.quantities import format_memory
from loam_operator.review import build_decision, is_decided
from loam_operator.status import change, clean_text, format_time, parse_time, read_state
from loam_operator.steps import FINISH, REVIEW, TRAIN, list_steps

_FIRST_BACKOFF_SECONDS = 10
_MOST_BACKOFF_SECONDS = 300
_MEMORY_GROWTH = 1.5


def find_live(status: FineTuneJobStatus) -> Attempt | None:
    """The attempt that was started and has not ended."""
    last = status.attempts[-1] if status.attempts else None
    return last if last is not None and not last.reason else None


def find_reason(status: FineTuneJobStatus, number: int) -> str:
    """How an attempt ended; "" while it runs."""
    return next((one.reason for one in status.attempts if one.number == number), "")


def find_next_step(spec: FineTuneJobSpec, status: FineTuneJobStatus) -> str:
    """The first step that is not done yet; "" where all are done.

    A retry by hand begins with the first: what made the job fail may have been its data. What is
    done is done quickly again, since the run's finished stages are kept. But where the adapter is
    trained no worker starts again, with its GPU, to find that out.
    """
    first = status.first_counted_attempt or 1
    done = {
        attempt.step
        for attempt in status.attempts
        if attempt.reason == "Succeeded" and attempt.number >= first
    }
    steps = list_steps(spec)
    if FINISH in steps and _has_trained(status):
        return "" if FINISH in done else FINISH
    if is_decided(status) or TRAIN in done:
        done.add(REVIEW)
    return next((step for step in steps if step not in done), "")


def _has_trained(status: FineTuneJobStatus) -> bool:
    """Whether the latest attempt went on from a trained adapter, or left one."""
    last = status.attempts[-1] if status.attempts else None
    if last is None:
        return False
    return last.step == FINISH or (last.step == TRAIN and last.reason == "Succeeded")


def start_attempt(status: FineTuneJobStatus, step: str, now: datetime) -> FineTuneJobStatus:
    """The status with one more attempt, which is live from now on."""
    number = status.attempts[-1].number + 1 if status.attempts else 1
    attempt = Attempt(number=number, step=step, started_at=format_time(now))
    return change(
        status,
        attempts=[*status.attempts, attempt],
        start_time=status.start_time or format_time(now),
        progress=None,
    )


def end_attempt(
    status: FineTuneJobStatus,
    reason: str,
    now: datetime,
    *,
    exit_code: int = -1,
    charged: bool = False,
) -> FineTuneJobStatus:
    """The status with its live attempt ended."""
    ended = status.attempts[-1].model_copy(
        update={
            "reason": reason,
            "ended_at": format_time(now),
            "exit_code": exit_code,
            "charged": charged,
        }
    )
    return change(status, attempts=[*status.attempts[:-1], ended], gpus=None)


def note_admission(
    status: FineTuneJobStatus, ray_job: RayJobView | None, state: str
) -> FineTuneJobStatus:
    """Remember under which name Ray has the live attempt, and count the names.

    A RayJob that a queue holds may have had one before; and a name alone is not worth a write.

    Args:
        state: that the attempt is seen in.
    """
    live, before = status.attempts[-1], read_state(status)
    name = ray_job.job_id[:64] if ray_job and state != "Queued" else ""
    is_first = state == "Starting" and not live.job_id
    if name in ("", live.job_id) or (is_first and (before is None or before.name != "Queued")):
        return status
    noted = live.model_copy(update={"job_id": name, "admissions": live.admissions + 1})
    return change(status, attempts=[*status.attempts[:-1], noted])


def note_pods(status: FineTuneJobStatus, uid: str, verdict: Verdict) -> FineTuneJobStatus:
    """Remember which RayJob and which head pod run the live attempt, and how far it is."""
    live = status.attempts[-1]
    # A queue gives the attempt a new head; until then the old one is no longer its own.
    head = "" if verdict.state == "Queued" else verdict.head_uid or live.head_uid
    if (live.uid, live.head_uid) != (uid, head):
        noted = live.model_copy(update={"uid": uid, "head_uid": head})
        status = change(status, attempts=[*status.attempts[:-1], noted])
    document = verdict.progress
    if document is not None and document.summary:
        summary = clean_text(document.summary)
        progress = Progress(summary=summary, eta_seconds=document.eta_seconds)
        status = change(status, progress=progress)
    return status


def note_result(status: FineTuneJobStatus, result: ResultDocument) -> FineTuneJobStatus:
    """Remember what a step that is done has found out."""
    memory = format_memory(result.worker_memory_bytes) if result.worker_memory_bytes else ""
    if result.is_reviewed:  # by an earlier job of the same inputs, or before a retry
        known = Review(decision="approved", run_key=result.run_key, by="an earlier review")
        status = change(status, review=known)
    return change(
        status,
        run_key=result.run_key or status.run_key,
        worker_memory=memory or status.worker_memory,
        method=result.method or status.method,
        method_reason=clean_text(result.method_reason) or status.method_reason,
        metrics=result.metrics or status.metrics,
        usage=_note_teacher(status.usage, result),
    )


def note_usage(status: FineTuneJobStatus, result: ResultDocument) -> FineTuneJobStatus:
    """Remember what a step has used that failed; of other things its word does not count."""
    return change(status, usage=_note_teacher(status.usage, result))


def _note_teacher(usage: Usage | None, result: ResultDocument) -> Usage | None:
    """What the run's teacher has cost and done; a step that does not know leaves it as it was."""
    told: dict[str, Any] = {}
    if result.teacher_requests or result.teacher_tokens:
        told["teacher_requests"] = result.teacher_requests
        told["teacher_tokens"] = result.teacher_tokens
    if cost := clean_text(result.cost):
        told["teacher_cost"] = cost
    return (usage or Usage()).model_copy(update=told) if told else usage


def may_retry(status: FineTuneJobStatus, failure: Failure, backoff_limit: int) -> bool:
    """Whether the failure that has just been noted leaves another try."""
    if failure.retry == "never":
        return False
    counted = _list_counted(status)
    of_this_class = sum(attempt.reason == failure.name for attempt in counted)
    if of_this_class > failure.most_retries:
        return False
    return failure.retry == "free" or sum(attempt.charged for attempt in counted) <= backoff_limit


def retry_at(status: FineTuneJobStatus) -> datetime | None:
    """When the next attempt may start; None for at once."""
    num_charged = sum(attempt.charged for attempt in _list_counted(status))
    last = status.attempts[-1] if status.attempts else None
    ended = parse_time(last.ended_at) if last else None
    if last is None or ended is None or not last.charged or not num_charged:
        return None
    seconds = min(_FIRST_BACKOFF_SECONDS * 2 ** (num_charged - 1), _MOST_BACKOFF_SECONDS)
    return ended + timedelta(seconds=seconds)


def build_launch(status: FineTuneJobStatus, live: Attempt) -> Launch:
    """What the attempt is given, by what its forerunners found out and what they died of."""
    ends = [one.reason for one in _list_counted(status) if one.step == live.step]
    return Launch(
        live.step,
        live.number,
        memory_factor=_MEMORY_GROWTH ** ends.count("HostOutOfMemory"),
        micro_batch_divisor=2 ** ends.count("OutOfMemory"),
        run_key=status.run_key or "",
        worker_memory=status.worker_memory or "",
        review=build_decision(status.review) if is_decided(status) else "",
    )


def _list_counted(status: FineTuneJobStatus) -> list[Attempt]:
    first = status.first_counted_attempt or 1
    return [
        attempt
        for attempt in status.attempts
        if attempt.number >= first and attempt.reason in ("", *FAILURES_BY_NAME)
    ]
