"""How an attempt begins: nothing of the one before runs any more, and the rules allow it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from loam_api.finetunejob import FineTuneJobSpec
from loam_api.status import Attempt, FineTuneJobStatus
from loam_operator.admission import list_excesses
from loam_operator.cleanup import has_running, list_leftovers
from loam_operator.deadline import describe_deadline, is_overdue, seconds_until_deadline
from loam_operator.decision import PODS_RECHECK_SECONDS, RECHECK_SECONDS, Decision
from loam_operator.endings import fail, suspend
from loam_operator.history import build_launch, find_next_step, retry_at, start_attempt
from loam_operator.names import MAX_ATTEMPT_NUMBER
from loam_operator.observed import JobView, Observed, Tenancy
from loam_operator.profiles import NoProfileError, Profile, find_kept, find_profile
from loam_operator.review import describe_decision, describe_wait, read_review, refuses_all
from loam_operator.states import name_beginning
from loam_operator.status import change, enter_state, format_time, read_state, read_status
from loam_operator.steps import REVIEW, count_gpus
from loam_operator.waits import REFUSED, name_refusal

CONFLICT_RECHECK_SECONDS = 10.0
# Labels of namespaces are not watched.
PROFILE_RECHECK_SECONDS = 30.0
# `kubectl apply -f FOLDER` goes by the names of the files: a job may come before its profile.
SETTLING_SECONDS = 5.0

# What is in the RayJob's own way is over when the RayJob is there.
LEFT_BY_A_RAY_JOB = ("NameConflict", "QuotaExceeded", "Refused")


def start_or_wait(
    observed: Observed, spec: FineTuneJobSpec, status: FineTuneJobStatus, now: datetime
) -> Decision:
    """No attempt runs: start the next one as soon as the last one's pods are gone."""
    if is_overdue(spec, status, now):
        return fail(observed, status, "DeadlineExceeded", describe_deadline(spec), now)
    if spec.suspend:
        return suspend(observed, status, now)
    if has_running(observed, status, now):
        return _await_pods(observed, status, now)
    due = retry_at(status)
    if due is not None and due > now:
        return Decision(status, requeue_seconds=(due - now).total_seconds())
    step = find_next_step(spec, status)
    if step == REVIEW:
        review = read_review(observed.job, status, now)
        if review is None:
            return _await_review(observed, spec, status, now)
        if refuses_all(review):
            return fail(observed, status, "ReviewRejected", describe_decision(review), now)
        status = change(status, review=review)
    is_first = not status.attempts
    if not is_first and status.attempts[-1].number >= MAX_ATTEMPT_NUMBER:
        return fail(observed, status, "Unknown", "The job has used up its attempt numbers.", now)
    profile = _admit(observed, spec, status, now)
    if isinstance(profile, Decision):
        return profile
    step = find_next_step(spec, status)
    status = start_attempt(status, step, now)
    status = change(status, gpus=str(count_gpus(step, spec) or "") or None)
    status = enter_state(status, name_beginning(step), now)
    live = status.attempts[-1]
    return _build_launch(status, live, profile, is_weighty=not is_first)


def _await_review(
    observed: Observed, spec: FineTuneJobSpec, status: FineTuneJobStatus, now: datetime
) -> Decision:
    """Nothing runs until a person has decided; the deadline goes on, as it does in a queue."""
    status = change(status, start_time=status.start_time or format_time(now))
    detail = describe_wait(observed.job, spec, status)
    status = enter_state(status, "AwaitingReview", now, detail)
    seconds = min(seconds_until_deadline(spec, status, now), RECHECK_SECONDS)
    return Decision(status, list_leftovers(observed, status), requeue_seconds=seconds)


def _await_pods(observed: Observed, status: FineTuneJobStatus, now: datetime) -> Decision:
    if read_state(status) is None:
        detail = "Pods of an earlier job of this name are still there."
        status = enter_state(status, "Retrying", now, detail)
    leftovers = list_leftovers(observed, status)
    return Decision(status, leftovers, PODS_RECHECK_SECONDS, is_weighty=True)


def launch(
    observed: Observed,
    spec: FineTuneJobSpec,
    status: FineTuneJobStatus,
    live: Attempt,
    now: datetime,
) -> Decision:
    """An attempt that the status speaks of has no RayJob yet: create it, or say what hinders."""
    if observed.conflicts:
        status = enter_state(status, "NameConflict", now, ", ".join(observed.conflicts))
        return Decision(status, requeue_seconds=CONFLICT_RECHECK_SECONDS)
    refusal = next((hint for hint in observed.hints if hint.reason == REFUSED), None)
    if refusal is not None:
        detail = f"{refusal.about}: {refusal.message}"
        status = enter_state(status, name_refusal(refusal.message), now, detail)
        return Decision(status, requeue_seconds=CONFLICT_RECHECK_SECONDS)
    if has_running(observed, status, now):
        return Decision(status, requeue_seconds=PODS_RECHECK_SECONDS, is_weighty=True)
    profile = _admit(observed, spec, status, now)
    if isinstance(profile, Decision):
        return profile
    state = read_state(status)
    if state is None or state.name not in LEFT_BY_A_RAY_JOB:
        status = enter_state(status, name_beginning(live.step), now)
    return _build_launch(status, live, profile, is_weighty=True)


def _build_launch(
    status: FineTuneJobStatus, live: Attempt, profile: Profile, *, is_weighty: bool
) -> Decision:
    status = change(status, profile=profile.use)
    action = replace(build_launch(status, live), profile=profile)
    return Decision(status, (action,), RECHECK_SECONDS, is_weighty=is_weighty)


def _admit(
    observed: Observed, spec: FineTuneJobSpec, status: FineTuneJobStatus, now: datetime
) -> Profile | Decision:
    """The profile that lets the job's next attempt start, or what to do without one."""
    kept = find_kept(observed, status.profile)
    if kept is None and observed.tenancy is None:
        return Decision(status, wants_tenancy=True)
    try:
        profile = kept or find_profile(observed.tenancy or Tenancy(), spec)
    except NoProfileError as error:
        status = enter_state(status, "ProfileUnavailable", now, str(error))
        return Decision(status, requeue_seconds=PROFILE_RECHECK_SECONDS)
    labels = observed.job.queue_labels
    excesses = list_excesses(spec, labels, profile, has_started=kept is not None)
    if not excesses:
        return profile
    seconds = _count_settling(observed.job, now)
    if seconds > 0:
        return Decision(read_status(observed.job.status), requeue_seconds=seconds)
    return fail(observed, status, "NotAllowed", " ".join(excesses), now)


def _count_settling(job: JobView, now: datetime) -> float:
    """Seconds for which a refusal waits: a profile may be on its way in the same `kubectl apply`.

    A clock behind the API server's gives a negative age, and no wait."""
    age = (now - job.created_at).total_seconds() if job.created_at else SETTLING_SECONDS
    return SETTLING_SECONDS - age if age >= 0 else 0.0
