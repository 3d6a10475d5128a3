"""What a job waits for is in its status, and it goes on as soon as it is there."""

from __future__ import annotations

from tests.tools.node import Node
from tests.tools.node_job import NodeJob
from tests.tools.waiting import wait_until

SAID_WITHIN_SECONDS = 45  # of which the pods' creation takes a part


def test_a_job_says_what_it_waits_for_and_goes_on(node: Node, job: NodeJob):
    """ "Starting" for hours is what users of such operators complain of most. What waiting cannot
    heal ends at once, with what to correct. A GPU is not held idle for as long as another one is
    missing; and a job that is deleted in the middle must leave nothing that holds one."""
    job.delete_secret()
    gate = job.hold_at_step(1)
    job.apply(
        compute={
            "device": "cpu",
            "workers": {"min": 1, "max": 2},
            "worker": {"cpu": "300m", "memory": "3Gi", "gpus": 1},
        },
    )
    job.await_reason("SecretMissing", timeout_seconds=SAID_WITHIN_SECONDS)

    job.create_secret(AWS_SECRET_ACCESS_KEY="wrong")
    job.await_reason("BadCredentials")
    assert f"refuses access to s3://{job.bucket}" in job.read_message()
    job.delete_secret()
    job.create_secret()
    job.retry()
    job.await_reason("Unschedulable")
    assert "nvidia.com/gpu" in job.read_message()
    node.set_gpus(1)
    job.await_step(gate)  # with the one worker for which there is room
    wait_until(lambda: count_running(job) == [1, 2], "the other one to be asked for again")
    node.set_gpus(2)
    wait_until(lambda: count_running(job) == [2, 2], "the other one to come")
    reasons = [one["reason"] for one in job.read_status()["attempts"]]
    assert reasons == ["BadCredentials", "Succeeded", ""]
    job.delete()


def count_running(job: NodeJob) -> list[int]:
    """Worker pods that run, and all of them."""
    pods = job.list_pods("worker")
    return [sum(pod.status.phase == "Running" for pod in pods), len(pods)]
