"""What a job waits for, by who says it: each cause has its state, its words and its end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.operator.lane import Lane
from tests.unit.operator.world import START

from loam_operator.event_reader import view_event
from loam_operator.hints import view_workload
from loam_operator.observed import Hint, PodView, RayJobView
from loam_operator.views import view_ray_job
from loam_operator.waits import find_wait

LATER = START + timedelta(seconds=11)
RAY_JOB = RayJobView("job-prepare-a1", "u", "o", "prepare", 1)
QUOTA = (
    'pods "x" is forbidden: exceeded quota: small, requested: cpu=2, used: cpu=1, limited: cpu=2'
)
SECURITY = 'pods "x" is forbidden: violates PodSecurity "restricted:latest"'


@pytest.mark.parametrize(
    ("pod", "state"),
    [
        ({"waiting": "ImagePullBackOff"}, "ImageUnavailable"),
        ({"waiting": "CreateContainerConfigError"}, "SecretMissing"),
        (
            {"waiting": "CreateContainerConfigError", "waiting_words": 'secret "s" not found'},
            "SecretMissing",
        ),
        (
            {"waiting": "CreateContainerConfigError", "waiting_words": "image will run as root"},
            "PodStuck",
        ),
        ({"waiting": "RunContainerError", "waiting_words": "no such device"}, "PodStuck"),
        ({"unschedulable": "0/3 nodes", "waiting_since": START}, "Unschedulable"),
    ],
)
def test_a_pods_own_words_come_first(pod: dict, state: str):
    """A missing Secret that is called a missing image sends its reader the wrong way."""
    view = PodView("p", "u", "worker", 1, **pod)
    found = find_wait(RAY_JOB, [view], [Hint("Pod p", "FailedMount")], LATER)
    assert found is not None
    assert found[0] == state
    assert pod.get("waiting_words", "") in found[1]


@pytest.mark.parametrize(("words", "state"), [(QUOTA, "QuotaExceeded"), (SECURITY, "Refused")])
def test_a_refused_pod_is_told_with_the_servers_words(words: str, state: str):
    """There is no pod to look at: without the RayCluster's condition the job "starts" for ever."""
    raw = {
        "metadata": {"name": "r", "uid": "u", "resourceVersion": "1"},
        "status": {
            "rayClusterStatus": {
                "conditions": [
                    {
                        "type": "ReplicaFailure",
                        "status": "True",
                        "reason": "FailedCreateHeadPod",
                        "message": f"FailedCreateHeadPod\n{words}",
                        "lastTransitionTime": "2026-01-01T00:00:00Z",
                    }
                ]
            }
        },
    }
    view = view_ray_job(raw)
    assert find_wait(view, [], [], START + timedelta(seconds=9)) is None
    found = find_wait(view, [], [], LATER)
    assert found is not None
    assert found[0] == state
    assert words in found[1]


@pytest.mark.parametrize(
    ("reason", "message", "state"),
    [
        ("FailedMount", 'configmap "data" not found', "VolumeMissing"),
        ("FailedCreatePodSandBox", "no address", "PodStuck"),
        ("FailedCreate", QUOTA, "QuotaExceeded"),
        ("FailedToCreateRayJobSubmitter", "admission webhook denied", "Refused"),
        ("BackOff", "as always", ""),
    ],
)
def test_events_tell_what_no_status_has(reason: str, message: str, state: str):
    """A volume that cannot be mounted leaves nothing in the pod's status."""
    event = {
        "involvedObject": {"kind": "Pod", "name": "p"},
        "reason": reason,
        "message": message,
    }
    found = find_wait(RAY_JOB, [], [view_event(event)], START)
    assert found == ((state, f"Pod p: {message}") if state else None)


def test_what_was_asked_once_is_not_taken_back():
    """The answer is not kept: without it the job would go "back" to starting, and so on for ever,
    and ask the API server each time."""
    lane = Lane()
    lane.work()
    lane.world.hints = (Hint("RayJob job-prepare-a1", "FailedToCreateRayJobSubmitter", QUOTA),)
    for _ in range(30):
        lane.world.seconds += 3
        lane.work(2)
    assert lane.world.transitions == ["Starting", "QuotaExceeded"]
    assert lane.world.num_looks == 1


def test_a_queues_words_are_shown_once_they_are_there():
    """ "Queued" for a day, without the flavour that is used up, helps nobody; and the words change
    with every other job in the queue, so that only the first are written."""
    lane = Lane()
    lane.run_until("Training")
    lane.world.seconds += 30
    lane.world.hold("job-train-a2")
    lane.work()
    again = "again: it was preempted (1 of at most 20 admissions used)."
    assert (lane.state, lane.message) == ("Queued", f"Attempt 2 waits for its queue {again}")
    lane.world.hints = (Hint("Workload w", "Pending", "insufficient unused quota for gpu"),)
    lane.world.seconds += 11
    lane.work()
    assert lane.message.endswith(f"{again} insufficient unused quota for gpu")
    writes = lane.world.counts.total
    lane.world.hints = (Hint("Workload w", "Pending", "other words"),)
    lane.world.seconds += 11
    lane.work()
    assert lane.world.counts.total == writes
    lane.run_until("Succeeded")


def test_a_workload_speaks_only_while_it_has_no_quota():
    condition = {"type": "QuotaReserved", "status": "False", "message": "no room"}
    raw = {"metadata": {"name": "w"}, "status": {"conditions": [condition]}}
    assert view_workload(raw) == Hint("Workload w", "", "no room")
    condition["status"] = "True"
    assert view_workload(raw) is None
    assert view_workload({"metadata": {"name": "w"}}) is None


def test_nobody_is_asked_about_a_job_that_gets_on():
    """Ten thousand jobs that look for events would be the API server's heaviest user."""
    lane = Lane()
    lane.run_until("Succeeded")
    assert lane.world.num_looks == 0


def test_a_silent_start_is_asked_about_seldom():
    """Events of its pods come by the second, and each would ask again."""
    lane = Lane()
    lane.work()
    for _ in range(60):
        lane.world.seconds += 1
        lane.operator.work()
    assert lane.world.num_looks == 3
    lane.world.hints = (Hint("Pod p", "FailedMount", 'configmap "data" not found'),)
    lane.world.seconds += 40
    lane.work()
    assert lane.state == "VolumeMissing"
    assert 'configmap "data" not found' in lane.message


def test_what_the_server_refuses_is_said_and_tried_again():
    """An exception in the operator's log is nothing that the job's owner can see."""
    lane = Lane()
    lane.world.refusal = QUOTA
    lane.work()
    assert lane.state == "QuotaExceeded"
    assert "limited: cpu=2" in lane.message
    writes = lane.world.counts.status
    lane.work(9)
    assert lane.world.counts.status == writes
    lane.world.refusal = ""
    lane.work()
    assert lane.state == "Starting"
    lane.run_until("Succeeded")


def test_an_invalid_ray_job_is_not_tried_again():
    """KubeRay will say the same of the next one."""
    lane = Lane()
    lane.work()
    lane.world.update_ray_job(
        "job-prepare-a1", deployment_status="ValidationFailed", message="the name is too long"
    )
    lane.work()
    assert lane.state == "RayJobInvalid"
    assert "the name is too long" in lane.message
    assert lane.reasons == ["RayJobInvalid"]


def test_a_refusal_that_is_over_is_no_trouble():
    """The condition goes when the pods are there; so must the words."""
    view = replace(RAY_JOB, refusal="", refused_since=START)
    assert find_wait(view, [], [], LATER) is None
