"""How long a job may still take, by `spec.activeDeadlineSeconds`."""

from __future__ import annotations

from datetime import datetime
from math import inf

from loam_api.finetunejob import FineTuneJobSpec
from loam_api.status import FineTuneJobStatus
from loam_operator.status import parse_time


def is_overdue(spec: FineTuneJobSpec, status: FineTuneJobStatus, now: datetime) -> bool:
    """Whether its time is up."""
    return seconds_until_deadline(spec, status, now) <= 0


def seconds_until_deadline(
    spec: FineTuneJobSpec, status: FineTuneJobStatus, now: datetime
) -> float:
    """What is left; infinite without a deadline."""
    started = parse_time(status.start_time)
    if not spec.active_deadline_seconds or started is None:
        return inf
    return spec.active_deadline_seconds - (now - started).total_seconds()


def describe_deadline(spec: FineTuneJobSpec) -> str:
    """For a job that did not make it."""
    return f"The job did not end within {spec.active_deadline_seconds} seconds."
