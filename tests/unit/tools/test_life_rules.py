"""The rules by which tests that break things judge: one that never complains proves nothing."""

from __future__ import annotations

from typing import Any

import pytest
from tests.tools.audit import Write, list_intruders
from tests.tools.history import Change
from tests.tools.life_rules import LifeRules

Body = dict[str, Any]


def make_job(reason: str, *attempts: str, phase: str = "Starting") -> Body:
    """A job in this state, whose attempts have ended with these reasons; "" for a live one."""
    return {
        "metadata": {"name": "job"},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "reason": reason}],
            "attempts": [{"number": n, "reason": r} for n, r in enumerate(attempts, start=1)],
        },
    }


def make_ray_job(attempt: int, state: str = "Running") -> Body:
    labels = {"loam.dev/job": "job", "loam.dev/attempt": str(attempt)}
    return {"metadata": {"labels": labels}, "status": {"jobDeploymentStatus": state}}


def check(*steps: Body | str | tuple[str, Body]) -> None:
    """Each a status of the job, a RayJob that is created or changed (by name), or one that goes."""
    rules, names = LifeRules(), set[str]()
    for revision, step in enumerate(steps):
        if isinstance(step, dict):
            rules.check([Change(revision, "finetunejobs", "job", not revision, step)])
        elif isinstance(step, str):
            names.discard(step)
            rules.check([Change(revision, "rayjobs", step, False, None)])
        else:
            rules.check([Change(revision, "rayjobs", step[0], step[0] not in names, step[1])])
            names.add(step[0])


STARTED = make_job("Starting", "")
AGAIN = make_job("Starting", "Unknown", "")
ENDED = make_job("Succeeded", "Succeeded", phase="Succeeded")


def test_an_ordinary_life_passes():
    """Or every chaos test would fail for nothing."""
    check(
        STARTED,
        ("a1", make_ray_job(1)),
        ("a1", make_ray_job(1, "Failed")),
        make_job("Retrying", "Unknown", phase="Pending"),
        AGAIN,
        ("a2", make_ray_job(2)),
        ("a2", make_ray_job(2, "Complete")),
        make_job("Succeeded", "Unknown", "Succeeded", phase="Succeeded"),
        "a1",
        "a2",
    )


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((STARTED, ("a1", make_ray_job(1)), "a1", ("a1", make_ray_job(1))), "created twice"),
        ((STARTED, ("a2", make_ray_job(2))), "a2: "),
        (({"metadata": {"name": "job"}}, ("a1", make_ray_job(1))), "a1: "),
        ((STARTED, ("a1", make_ray_job(1)), AGAIN, ("a2", make_ray_job(2))), "was alive"),
        ((ENDED, ("a1", make_ray_job(1))), "after the job's end"),
        ((ENDED, STARTED), "from Succeeded to Starting"),
        ((AGAIN, make_job("Starting", "BadInput", "")), "has changed"),
    ],
)
def test_each_broken_rule_is_seen(steps: tuple[Any, ...], words: str):
    """A child twice, one before its status, two at once, one after the end, an end that is undone,
    a past that is rewritten: what no crash may lead to."""
    with pytest.raises(AssertionError, match=words):
        check(*steps)


def make_write(user: str, resource: str, second: int) -> Write:
    moment = f"2026-01-01T00:00:{second:02}Z"
    return Write(user, "patch", resource, "x", moment, moment)


def test_a_write_after_the_lease_was_lost_is_seen():
    """Also where its writer takes the lease again later."""
    late = make_write("left", "rayjobs", 4)
    writes = [
        make_write("left", "leases", 1),
        make_write("left", "rayjobs", 2),
        make_write("right", "leases", 3),
        late,
        make_write("kubelet", "pods", 5),
        make_write("left", "leases", 6),
        make_write("left", "rayjobs", 7),
    ]
    assert list_intruders(writes) == [late]
