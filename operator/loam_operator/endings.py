"""The two ways in which a job stops for good or for now; its pods go with it."""

from __future__ import annotations

from datetime import datetime

from loam_api.status import FineTuneJobStatus
from loam_operator.cleanup import has_running, list_leftovers
from loam_operator.decision import PODS_RECHECK_SECONDS, Decision
from loam_operator.history import end_attempt, find_live
from loam_operator.observed import Observed
from loam_operator.status import change, enter_state


def fail(
    observed: Observed, status: FineTuneJobStatus, name: str, detail: str, now: datetime
) -> Decision:
    """End the job in the named class of failure."""
    if find_live(status) is not None:
        status = end_attempt(status, name, now)
    num_attempts = status.attempts[-1].number if status.attempts else 0
    words = f"{detail} (after {num_attempts} attempts)" if num_attempts > 1 else detail
    status = enter_state(status, name, now, words)
    return Decision(status, list_leftovers(observed, status), 1.0, is_weighty=True)


def suspend(observed: Observed, status: FineTuneJobStatus, now: datetime) -> Decision:
    """Give the pods back, then say so; the deadline's clock starts anew afterwards."""
    status = change(status, start_time=None)
    if has_running(observed, status, now):
        status = enter_state(status, "Suspending", now)
        leftovers = list_leftovers(observed, status)
        return Decision(status, leftovers, PODS_RECHECK_SECONDS, is_weighty=True)
    suspended = enter_state(status, "Suspended", now)
    return Decision(suspended, is_weighty=suspended != status)
