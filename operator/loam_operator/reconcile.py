"""From what is observed of one job to what is written and done: pure, without clock or I/O.

Read it from `reconcile` down. The status says which attempt runs; it is written before anything is
created or deleted for it, so that whoever comes after a crash finds out from status and objects
what is left to do.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from loam_api.finetunejob import FineTuneJobSpec
from loam_api.status import MAX_ADMISSIONS, MAX_RETRY_TOKENS, Attempt, FailureLog, FineTuneJobStatus
from loam_operator.checking import SpecError, check_spec
from loam_operator.cleanup import clean_up, free_workers, list_leftovers
from loam_operator.costs import tell_costs
from loam_operator.deadline import describe_deadline, is_overdue, seconds_until_deadline
from loam_operator.decision import RECHECK_SECONDS, Decision
from loam_operator.effective import limit_deadline
from loam_operator.elastic import find_resize, is_elastic
from loam_operator.endings import fail, suspend
from loam_operator.failures import FAILURES_BY_NAME
from loam_operator.history import (
    end_attempt,
    find_live,
    find_next_step,
    find_reason,
    may_retry,
    note_admission,
    note_pods,
    note_result,
    note_usage,
)
from loam_operator.judge import Verdict, judge_attempt
from loam_operator.log_lines import keep_lines
from loam_operator.memory import describe_limit
from loam_operator.observed import Observed
from loam_operator.profiles import find_kept
from loam_operator.starting import LEFT_BY_A_RAY_JOB, launch, start_or_wait
from loam_operator.states import RUNNING, State
from loam_operator.status import (
    change,
    clean_text,
    enter_state,
    has_detail,
    parse_time,
    read_state,
    read_status,
)
from loam_operator.waits import WAIT_IS_TROUBLE_AFTER, describe_preemptions

STARTING_RECHECK_SECONDS = 10.0


def reconcile(observed: Observed, now: datetime) -> Decision:
    """Decide what to write and do for one job.

    Nothing changes: the status equals the observed one and there is no action.
    """
    decision = _decide(observed, now)
    before = read_status(observed.job.status)
    if decision.status != before:
        decision = replace(decision, status=tell_costs(observed, decision.status, now))
    live = find_live(before)
    if live is None or find_reason(decision.status, live.number) not in FAILURES_BY_NAME:
        return decision
    if observed.logs is None:
        return replace(decision, wants_logs=True)
    text = keep_lines(observed.logs)
    log = FailureLog(attempt=live.number, text=text) if text else decision.status.failure_log
    return replace(decision, status=change(decision.status, failure_log=log))


def _decide(observed: Observed, now: datetime) -> Decision:
    job = observed.job
    status = read_status(job.status)
    if job.is_deleting:  # ownerReferences take everything along
        return Decision(status)
    status = change(status, observed_generation=job.generation)
    state = read_state(status)
    if state is not None and state.is_terminal:
        return _stay_ended(observed, status, state, now)
    try:
        spec = check_spec(job)
    except SpecError as error:
        return fail(observed, status, "InvalidSpec", str(error), now)
    spec = limit_deadline(spec, find_kept(observed, status.profile))
    live = find_live(status)
    if live is not None:
        return _follow(observed, spec, status, live, now)
    return start_or_wait(observed, spec, status, now)


def _stay_ended(
    observed: Observed, status: FineTuneJobStatus, state: State, now: datetime
) -> Decision:
    """A terminal state is left only by a new retry token, and never after success."""
    token = clean_text(observed.job.retry_token)[:64]
    if state.next_states and token and token not in status.retry_tokens:
        last = status.attempts[-1].number if status.attempts else 0
        status = change(
            status,
            retry_tokens=[*status.retry_tokens, token][-MAX_RETRY_TOKENS:],
            first_counted_attempt=last + 1,
            review=None,  # asked for anew, unless the run turns out to have been reviewed
            start_time=None,
            profile=None,  # the rules as they are now
        )
        return Decision(enter_state(status, "Retrying", now, "A retry was asked for."))
    return clean_up(observed, status, now)


def _follow(
    observed: Observed,
    spec: FineTuneJobSpec,
    status: FineTuneJobStatus,
    live: Attempt,
    now: datetime,
) -> Decision:
    """An attempt has been started and has not ended yet."""
    verdict = judge_attempt(observed, live, now)
    if verdict.outcome == "succeeded":
        return _finish_step(observed, spec, status, verdict, live, now)
    if is_overdue(spec, status, now):
        return fail(observed, status, "DeadlineExceeded", describe_deadline(spec), now)
    if spec.suspend:
        status = end_attempt(status, "Suspended", now)
        return suspend(observed, status, now)
    ray_job = observed.find_ray_job(live.step, live.number)
    status = note_admission(status, ray_job, verdict.state)
    if status.attempts[-1].admissions > MAX_ADMISSIONS:
        return fail(observed, status, "PreemptedTooOften", describe_preemptions(observed.job), now)
    if verdict.outcome == "failed":
        return _end_failed(observed, spec, status, verdict, now)
    if verdict.outcome == "absent":
        return launch(observed, spec, status, live, now)
    return _show_active(spec, status, verdict, observed, live, now)


def _show_active(
    spec: FineTuneJobSpec,
    status: FineTuneJobStatus,
    verdict: Verdict,
    observed: Observed,
    live: Attempt,
    now: datetime,
) -> Decision:
    ray_job = observed.find_ray_job(live.step, live.number)
    before = read_state(status)
    is_named = bool(ray_job and ray_job.job_id)
    if before is None or _may_show(before, verdict.state, is_new=not live.uid, is_named=is_named):
        status = enter_state(status, verdict.state, now, verdict.detail)
    if verdict.state != "Starting":  # seen running: from now on it can only be lost
        status = note_pods(status, ray_job.uid if ray_job else "", verdict)
    is_silent = verdict.state in ("Starting", "Queued") and not has_detail(status)
    started = parse_time(live.started_at) or now
    seconds = seconds_until_deadline(spec, status, now)
    resize = find_resize(observed, spec, live, now)
    may_shrink = verdict.state not in RUNNING and is_elastic(observed.job, spec, live.step)
    recheck = STARTING_RECHECK_SECONDS if is_silent or may_shrink else RECHECK_SECONDS
    return Decision(
        status,
        (resize,) if resize else (),
        requeue_seconds=min(seconds, recheck),
        is_weighty=resize is not None,
        wants_hints=is_silent and now - started >= WAIT_IS_TROUBLE_AFTER,
    )


def _may_show(before: State, name: str, is_new: bool, is_named: bool) -> bool:
    """Inside an attempt a job only goes forward, lest late news be written back and forth.

    Args:
        is_new: the RayJob has just come to be.
        is_named: it has a name for Ray; one that is admitted gets it a moment later.
    """
    if before.name in RUNNING and name in RUNNING:
        return RUNNING.index(name) > RUNNING.index(before.name)
    if name != "Starting":
        return True
    if before.name == "Queued":
        return is_named
    # Starting pods may run into trouble and out of it again without another word.
    return before.name in LEFT_BY_A_RAY_JOB and is_new


def _finish_step(
    observed: Observed,
    spec: FineTuneJobSpec,
    status: FineTuneJobStatus,
    verdict: Verdict,
    live: Attempt,
    now: datetime,
) -> Decision:
    result = verdict.result
    assert result is not None
    status = note_result(end_attempt(status, "Succeeded", now, exit_code=0), result)
    if find_next_step(spec, status) and not result.is_published:
        decision = start_or_wait(observed, spec, status, now)
    else:
        status = enter_state(status, "Succeeded", now)
        decision = Decision(status, list_leftovers(observed, status), requeue_seconds=1.0)
    return replace(decision, actions=(*free_workers(observed, spec, live), *decision.actions))


def _end_failed(
    observed: Observed,
    spec: FineTuneJobSpec,
    status: FineTuneJobStatus,
    verdict: Verdict,
    now: datetime,
) -> Decision:
    failure = verdict.failure
    assert failure is not None
    limit = describe_limit(observed, status, verdict.killed) if verdict.killed else ""
    status = end_attempt(
        status,
        failure.name,
        now,
        exit_code=verdict.exit_code,
        charged=failure.retry == "charged",
    )
    if verdict.result is not None:
        status = note_usage(status, verdict.result)
    if not limit and may_retry(status, failure, spec.backoff_limit):
        detail = f"Attempt {status.attempts[-1].number} ended with {failure.name}: {verdict.detail}"
        status = enter_state(status, "Retrying", now, detail)
        return Decision(status, list_leftovers(observed, status), 1.0, is_weighty=True)
    return fail(observed, status, failure.name, f"{verdict.detail} {limit}".strip(), now)
