"""What holds in every life of a job, whatever goes wrong around it; checked write by write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.tools.history import Change
from tests.tools.operator_process import read_reason

from loam_operator.names import ATTEMPT_LABEL, JOB_LABEL
from loam_operator.states import STATES_BY_NAME

Body = dict[str, Any]
_ENDS = ("Succeeded", "Failed")


class LifeRules:
    """Follows FineTuneJobs and RayJobs through their writes.

    Attributes:
        launched: names of all RayJobs, in the order in which they came to be.
    """

    def __init__(self) -> None:
        self.launched: list[str] = []
        self._jobs: dict[str, Body] = {}
        self._ray_jobs: dict[str, Body] = {}

    def check(self, changes: Iterable[Change]) -> None:
        """Follow more writes.

        Raises:
            AssertionError: one breaks a rule.
        """
        for change in changes:
            if change.plural == "finetunejobs":
                self._check_job(change)
            elif change.plural == "rayjobs":
                self._check_ray_job(change)

    def _check_job(self, change: Change) -> None:
        before = self._jobs.pop(change.name, None)
        if change.body is None:
            return
        self._jobs[change.name] = change.body
        if before is not None:
            check_transition(before, change.body)

    def _check_ray_job(self, change: Change) -> None:
        if change.is_new and change.body is not None:
            assert change.name not in self.launched, f"{change.name} was created twice"
            self.launched.append(change.name)
            self._check_launch(change.name, change.body)
        self._ray_jobs.pop(change.name, None)
        if change.body is not None:
            self._ray_jobs[change.name] = change.body

    def _check_launch(self, name: str, ray_job: Body) -> None:
        """The status speaks of the attempt before its RayJob is there; no other one is alive."""
        job_name, number = _read_labels(ray_job)
        status = self._jobs[job_name].get("status", {})
        assert status.get("phase") not in _ENDS, f"{name} came after the job's end"
        live = status.get("attempts", [{}])[-1]
        assert (live.get("number"), live.get("reason", "")) == (number, ""), f"{name}: {live}"
        for other, body in self._ray_jobs.items():
            if _read_labels(body)[0] == job_name:
                assert _read_labels(body)[1] < number, f"{name} came after {other}"
                assert not is_alive(body), f"{other} was alive when {name} came"


def check_transition(before: Body, after: Body) -> None:
    """From one state only to those that the table allows; what has ended has ended for good."""
    name = after["metadata"]["name"]
    old, new = read_reason(before), read_reason(after)
    if old and old != new:
        assert new in STATES_BY_NAME[old].next_states, f"{name}: from {old} to {new}"
        assert before["status"]["phase"] not in _ENDS, f"{name}: {new} after the end"
    known = {one["number"]: one for one in after.get("status", {}).get("attempts", [])}
    assert list(known) == sorted(known), f"{name}: attempts out of order"
    for attempt in before.get("status", {}).get("attempts", []):
        if attempt.get("reason"):
            assert known[attempt["number"]] == attempt, f"{name}: an ended attempt has changed"


def is_alive(ray_job: Body) -> bool:
    """Whether its pods may run."""
    state = ray_job.get("status", {}).get("jobDeploymentStatus")
    return state not in ("Complete", "Failed") and "deletionTimestamp" not in ray_job["metadata"]


def _read_labels(ray_job: Body) -> tuple[str, int]:
    """Name of the job and number of the attempt."""
    labels = ray_job["metadata"]["labels"]
    return labels[JOB_LABEL], int(labels[ATTEMPT_LABEL])
