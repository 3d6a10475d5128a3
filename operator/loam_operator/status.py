"""From a state to the status that is written: conditions, bounds, and no change without a cause."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from loam_api.status import (
    MAX_ADMISSIONS,
    MAX_ATTEMPTS,
    MAX_MESSAGE_LENGTH,
    Attempt,
    Condition,
    FineTuneJobStatus,
    StatusModel,
)
from loam_operator.states import MILESTONES, STATES_BY_NAME, State

# Everything a reader needs is in these; the same words eleven times would only cost space.
_TOLD = ("Ready", "Failed")
MAX_STATUS_BYTES = 64 * 1024


def format_time(moment: datetime) -> str:
    """RFC 3339 in whole seconds, as Kubernetes writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str | None) -> datetime | None:
    """The moment of an RFC 3339 text; None for anything else."""
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC) if moment else None


def read_status(raw: Mapping[str, Any]) -> FineTuneJobStatus:
    """The status as the operator last wrote it.

    Raises:
        ValueError: it is nobody's that the CRD lets write; to guess would run a job twice.
    """
    return FineTuneJobStatus.model_validate(raw)


def read_state(status: FineTuneJobStatus) -> State | None:
    """The state that a status stands in; None before the first.

    A newer operator may have written a reason that this one does not know: an end stays an end.
    """
    reasons = [condition.reason for condition in status.conditions if condition.type == "Ready"]
    if reasons and reasons[0] in STATES_BY_NAME:
        return STATES_BY_NAME[reasons[0]]
    ends = {"Succeeded": "Succeeded", "Failed": "Unknown"}
    return STATES_BY_NAME[ends[status.phase]] if status.phase in ends else None


def enter_state(
    status: FineTuneJobStatus, name: str, now: datetime, detail: str = ""
) -> FineTuneJobStatus:
    """The status in the named state; the same object if it stands there already.

    A message is written when its state is entered and then left alone: the words that Kubernetes
    has for one and the same trouble keep changing, and each change would be a write. Only what was
    entered without a detail is given one, once; and the words of a state that `is_retold` are the
    operator's own, which change only with the matter.
    """
    state = STATES_BY_NAME[name]
    attempt = status.attempts[-1] if status.attempts else None
    message = _fill_message(state, attempt, detail)
    is_same = read_state(status) == state and status.attempt == (
        attempt.number if attempt else None
    )
    is_told = has_detail(status) and not state.is_retold
    known = (_get_message(status), _fill_message(state, attempt, ""))
    if is_same and (is_told or message in known):
        return status
    conditions = _build_conditions(status, state, now, message)
    return change(
        status,
        phase=state.phase,
        conditions=conditions,
        attempt=attempt.number if attempt else None,
        completion_time=format_time(now) if state.is_terminal else None,
        progress=None if state.is_terminal else status.progress,
    )


def has_detail(status: FineTuneJobStatus) -> bool:
    """Whether the message of its state has more to say than the state itself."""
    state = read_state(status)
    attempt = status.attempts[-1] if status.attempts else None
    return state is not None and _get_message(status) != _fill_message(state, attempt, "")


def _get_message(status: FineTuneJobStatus) -> str:
    return next((one.message for one in status.conditions if one.type == "Ready"), "")


def _fill_message(state: State, attempt: Attempt | None, detail: str) -> str:
    words = {
        "attempt": attempt.number if attempt else 1,
        "step": attempt.step if attempt else "",
        "again": _describe_preemption(attempt.admissions) if attempt else "",
        "detail": clean_text(detail),
    }
    # The remedy stands behind the detail: a long detail is what gives way.
    room = MAX_MESSAGE_LENGTH - len(state.meaning.format(**{**words, "detail": ""}))
    words["detail"] = shorten(str(words["detail"]), room)
    return state.meaning.format(**words).strip()


def _describe_preemption(admissions: int) -> str:
    """What a queue has done to an attempt that it has admitted before; "" for one that is new."""
    if not admissions:
        return ""
    return f" again: it was preempted ({admissions} of at most {MAX_ADMISSIONS} admissions used)"


def _build_conditions(
    status: FineTuneJobStatus, state: State, now: datetime, message: str
) -> list[Condition]:
    held = {condition.type: condition for condition in status.conditions}
    wanted = {kind: (value, state.name) for kind, value in state.list_conditions().items()}
    wanted["Validated"] = (state.name != "InvalidSpec", "Checked")
    for index, milestone in enumerate(MILESTONES):
        was_reached = milestone in held and held[milestone].status == "True"
        is_reached = index < state.num_milestones
        wanted[milestone] = (is_reached or was_reached, "Reached" if is_reached else state.name)
    return [
        _build_condition(kind, is_true, reason, message, held.get(kind), now)
        for kind, (is_true, reason) in wanted.items()
    ]


def _build_condition(
    kind: str, is_true: bool, reason: str, message: str, held: Condition | None, now: datetime
) -> Condition:
    value = "True" if is_true else "False"
    is_same = held is not None and held.status == value
    if held is not None and is_same and kind in (*MILESTONES, "Validated"):
        return held
    return Condition.model_validate(
        {
            "type": kind,
            "status": value,
            "reason": reason,
            "message": message if kind in _TOLD else "",
            "lastTransitionTime": held.last_transition_time
            if held is not None and is_same
            else format_time(now),
        }
    )


def change(status: FineTuneJobStatus, **fields: Any) -> FineTuneJobStatus:
    """A copy with other values; attempts beyond the bound are dropped, those that count last."""
    if "attempts" in fields:
        fields["attempts"] = _trim_attempts(fields["attempts"], status.first_counted_attempt or 1)
    return status.model_copy(update=fields)


def _trim_attempts(attempts: list[Attempt], first_counted: int) -> list[Attempt]:
    excess = len(attempts) - MAX_ATTEMPTS
    if excess <= 0:
        return attempts
    by_worth = sorted(
        attempts[:-1],
        key=lambda one: (one.number >= first_counted and one.reason != "Suspended", one.number),
    )
    dropped = {one.number for one in by_worth[:excess]}
    return [one for one in attempts if one.number not in dropped]


def build_patch(raw: Mapping[str, Any], status: FineTuneJobStatus) -> dict[str, Any]:
    """The JSON merge patch from what the server holds to `status`; empty where nothing changes."""
    wanted = _dump(status)
    held = _dump(read_status(raw))
    patch = {name: value for name, value in wanted.items() if held.get(name) != value}
    for name in held:
        if name not in wanted:
            patch[name] = None
    for name, value in patch.items():
        if isinstance(value, dict) and isinstance(raw.get(name), dict):
            patch[name] = {**dict.fromkeys(raw[name]), **value}
    return patch


def measure_status(status: FineTuneJobStatus) -> int:
    """Bytes of the status as JSON."""
    return len(json.dumps(_dump(status)).encode())


def _dump(status: StatusModel) -> dict[str, Any]:
    dumped = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: value for name, value in dumped.items() if value not in ([], {})}


def shorten(text: str, limit: int) -> str:
    """At most so many characters, with a mark where some are missing."""
    return text if len(text) <= limit else f"{text[: max(0, limit - 1)]}…"


def clean_text(text: str) -> str:
    """One line without control characters: the words of others, fit for a status."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())
