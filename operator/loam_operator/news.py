"""What a person would want to read under Events in `kubectl describe`, from two statuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loam_operator.failures import FAILURES_BY_NAME
from loam_operator.observed import JobView
from loam_operator.review import describe_decision
from loam_operator.states import WAITING, State
from loam_operator.status import read_state, read_status

_TROUBLE = (*WAITING, "NameConflict")


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
    """What a write of a job's status tells; None for progress and other small things."""
    old, new = read_status(before.status), read_status(after.status)
    if new.review is not None and new.review != old.review:
        return News("Normal", "Reviewed", describe_decision(new.review))
    state = read_state(new)
    if state is None or (read_state(old), old.attempt) == (state, new.attempt):
        return None
    message = next((one.message for one in new.conditions if one.type == "Ready"), "")
    if state.name == "Retrying" and new.attempts and new.attempts[-1].reason in FAILURES_BY_NAME:
        ended = {one.number for one in old.attempts if one.reason}
        if new.attempts[-1].number not in ended:
            return News("Warning", new.attempts[-1].reason, message)
    return News("Warning" if _is_trouble(state) else "Normal", state.name, message)


def _is_trouble(state: State) -> bool:
    return state.phase == "Failed" or state.name in _TROUBLE
