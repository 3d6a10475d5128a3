"""The state machine: one table of states, for the code, its tests and docs/states.md.

A state's name is the reason of the condition Ready, so the state is read back from status.
"""

from __future__ import annotations

from dataclasses import dataclass

from loam_api.status import Phase
from loam_operator.failures import FAILURES
from loam_operator.steps import FINISH

# Conditions that tell how far the job has come, in order; once True they stay.
MILESTONES = ("Admitted", "DataReady", "Trained", "Published")


@dataclass(frozen=True, slots=True)
class State:
    """One state of a job.

    Attributes:
        meaning: for the condition's message; {attempt}, {step}, {again} and {detail} are filled in.
        is_retold: whether its message may change while the job stays in it.
        num_milestones: how many of `MILESTONES` are reached in it.
        next_states: where it may lead, besides itself.
    """

    name: str
    phase: Phase
    meaning: str
    next_states: tuple[str, ...]
    num_milestones: int = 0
    is_ready: bool = False
    is_reconciling: bool = True
    is_stalled: bool = False
    is_suspended: bool = False
    is_retold: bool = False

    @property
    def is_terminal(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    def list_conditions(self) -> dict[str, bool]:
        """The conditions that this state alone decides."""
        return {
            "Ready": self.is_ready,
            "Reconciling": self.is_reconciling,
            "Stalled": self.is_stalled,
            "Complete": self.phase == "Succeeded",
            "Failed": self.phase == "Failed",
            "Suspended": self.is_suspended,
        }


WAITING = (
    "ImageUnavailable",
    "SecretMissing",
    "VolumeMissing",
    "PodStuck",
    "QuotaExceeded",
    "Refused",
    "Unschedulable",
)
# How far a running attempt is, in order.
RUNNING = ("Preparing", "Training", "Finishing")
# What an attempt stands in from its launch on: with its adapter trained, a job is not starting.
_BEGINNINGS = ("Starting", "Finishing")
_ACTIVE = ("Starting", *WAITING, "Queued", *RUNNING)
_FAILED = tuple(failure.name for failure in FAILURES)
_ENDS = (
    "AwaitingReview",
    "Succeeded",
    "Retrying",
    "Suspending",
    "Suspended",
    "NameConflict",
    "ProfileUnavailable",
    *_FAILED,
)
_FROM_ACTIVE = (*_ACTIVE, *_ENDS)


def _wait(name: str, meaning: str) -> State:
    return State(name, "Starting", meaning, _FROM_ACTIVE)


STATES = (
    State(
        "Starting", "Starting", "The pods of attempt {attempt} ({step}) are starting.", _FROM_ACTIVE
    ),
    _wait("ImageUnavailable", "The image cannot be pulled: {detail}"),
    _wait("SecretMissing", "A Secret or one of its keys is missing: {detail}"),
    _wait("VolumeMissing", "A volume cannot be mounted: {detail}"),
    _wait("PodStuck", "A pod cannot start: {detail}"),
    _wait("QuotaExceeded", "The quota of the namespace leaves no room: {detail}"),
    _wait("Refused", "The API server refuses what the attempt needs: {detail}"),
    _wait("Unschedulable", "No node has room: {detail}"),
    State(
        "Queued", "Queued", "Attempt {attempt} waits for its queue{again}. {detail}", _FROM_ACTIVE
    ),
    State(
        "Preparing", "Preparing", "Attempt {attempt} ({step}) prepares the data.", _FROM_ACTIVE, 1
    ),
    State(
        "AwaitingReview",
        "AwaitingReview",
        "No pod runs: the job waits for a person to look at synthetic rows, in {detail} Then "
        "`loam approve NAME`, or `loam reject NAME --rows ID,ID`; or set the annotation "
        "loam.dev/review to approved, or to rejected with the ids in loam.dev/review-rows.",
        (
            "Starting",
            "Suspending",
            "Suspended",
            "Retrying",
            "ProfileUnavailable",
            *_FAILED,
        ),
        1,
        is_retold=True,
    ),
    State(
        "Training",
        "Training",
        "Attempt {attempt} measures the base model and trains.",
        _FROM_ACTIVE,
        2,
    ),
    State(
        "Finishing",
        "Finishing",
        "Attempt {attempt} ({step}) measures the result, which is published at the end.",
        _FROM_ACTIVE,
        3,
    ),
    State(
        "Retrying",
        "Pending",
        "{detail} A new attempt starts when the pods of the last one are gone.",
        (*_BEGINNINGS, "AwaitingReview", "ProfileUnavailable", "Suspending", "Suspended", *_FAILED),
    ),
    State(
        "NameConflict",
        "Pending",
        "{detail} is in the way and is not this job's: delete it, or give the job another name.",
        _FROM_ACTIVE,
        is_reconciling=False,
        is_stalled=True,
    ),
    State(
        "ProfileUnavailable",
        "Pending",
        "{detail}",
        _FROM_ACTIVE,
        is_reconciling=False,
        is_stalled=True,
        is_retold=True,
    ),
    State(
        "Suspending",
        "Suspended",
        "The pods are being given back.",
        ("Suspended", *_BEGINNINGS, "AwaitingReview", "Retrying", "ProfileUnavailable", *_FAILED),
    ),
    State(
        "Suspended",
        "Suspended",
        "The job is suspended; set spec.suspend to false to go on.",
        (*_BEGINNINGS, "AwaitingReview", "ProfileUnavailable", *_FAILED),
        is_reconciling=False,
        is_suspended=True,
    ),
    State(
        "Succeeded",
        "Succeeded",
        "The adapter is published.",
        (),
        len(MILESTONES),
        is_ready=True,
        is_reconciling=False,
    ),
    *(
        State(
            failure.name,
            "Failed",
            f"{{detail}} {failure.remedy}",
            ("Retrying",) if failure.name != "InvalidSpec" else (),
            is_reconciling=False,
            is_stalled=True,
        )
        for failure in FAILURES
    ),
)

INITIAL_STATES = (
    "Starting",
    "Retrying",
    "ProfileUnavailable",
    "Suspending",
    "Suspended",
    "InvalidSpec",
    "NotAllowed",
)

STATES_BY_NAME = {state.name: state for state in STATES}


def name_beginning(step: str) -> str:
    """The state that an attempt at the step is launched in."""
    return "Finishing" if step == FINISH else "Starting"
