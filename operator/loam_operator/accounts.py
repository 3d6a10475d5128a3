"""Counts what has become of jobs: from what a pass wrote, and from what the cache holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from loam_api.status import Attempt, FineTuneJobStatus
from loam_operator import metrics
from loam_operator.observed import JobView
from loam_operator.status import read_state, read_status


def count_status(before: JobView, after: JobView, now: datetime) -> None:
    """A status was written: count the state it entered and the attempts that it ended."""
    old, new = read_status(before.status), read_status(after.status)
    state = read_state(new)
    if state is not None and state != read_state(old):
        metrics.TRANSITIONS.labels(state.name).inc()
        if state.name == "Training" and _is_first_of_step(new):
            _observe_start("training", after, now)
    for attempt in list_newly_ended(old, new):
        metrics.ATTEMPTS_ENDED.labels(attempt.reason).inc()


def count_launch(job: JobView, attempt: int, now: datetime) -> None:
    """An attempt's RayJob is there."""
    if attempt == 1:
        _observe_start("rayjob", job, now)


def count_jobs(jobs: Iterable[JobView]) -> None:
    """Set the gauge of jobs by phase, anew."""
    phases = Counter((job.namespace, str(job.status.get("phase", "Pending"))) for job in jobs)
    metrics.JOBS.clear()
    for (namespace, phase), count in phases.items():
        metrics.JOBS.labels(namespace, phase).set(count)


def list_newly_ended(old: FineTuneJobStatus, new: FineTuneJobStatus) -> list[Attempt]:
    """Attempts that have a reason in the new status and had none in the old one."""
    known = {attempt.number for attempt in old.attempts if attempt.reason}
    return [one for one in new.attempts if one.reason and one.number not in known]


def _is_first_of_step(status: FineTuneJobStatus) -> bool:
    steps = [attempt.step for attempt in status.attempts]
    return steps.count(steps[-1]) == 1 if steps else False


def _observe_start(until: str, job: JobView, now: datetime) -> None:
    if job.created_at is not None:  # in whole seconds, as the API server writes it
        seconds = (now - job.created_at).total_seconds()
        metrics.START_SECONDS.labels(until).observe(max(0.0, seconds))
