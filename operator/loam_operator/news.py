"""What a person would want to read under Events in `kubectl describe`, from two statuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loam_operator.failures import FAILURES_BY_NAME
from loam_operator.observed import JobView
from loam_operator.review import describe_decision
from loam_operator.states import RUNNING, WAITING, State
from loam_operator.status import read_state, read_status

_TROUBLE = (*WAITING, "NameConflict")
# What a job goes through when nothing is amiss: its phase says so, and its first write begins it.
_PLAIN = ("", "Starting", *RUNNING)


@dataclass(frozen=True, slots=True)
class News:
    """One event.

    Attributes:
        kind: Kubernetes' two.
        reason: the state entered, or the class of the failure that is tried again.
    """

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str


def find_news(before: JobView, after: JobView) -> News | None:
    """What a write of a job's status tells; None where all goes on as anybody would expect.

    Each event is a write: a job that meets no trouble has one, its end.
    """
    old, new = read_status(before.status), read_status(after.status)
    if new.review is not None and new.review != old.review:
        return News("Normal", "Reviewed", describe_decision(new.review))
    before_state, state = read_state(old), read_state(new)
    if state is None or (before_state, old.attempt) == (state, new.attempt):
        return None
    if state.name in _PLAIN and (before_state.name if before_state else "") in _PLAIN:
        return None
    message = next((one.message for one in new.conditions if one.type == "Ready"), "")
    if state.name == "Retrying" and new.attempts and new.attempts[-1].reason in FAILURES_BY_NAME:
        ended = {one.number for one in old.attempts if one.reason}
        if new.attempts[-1].number not in ended:
            return News("Warning", new.attempts[-1].reason, message)
    return News("Warning" if _is_trouble(state) else "Normal", state.name, message)


def _is_trouble(state: State) -> bool:
    return state.phase == "Failed" or state.name in _TROUBLE
