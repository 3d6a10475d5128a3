"""What a job waits for is in its status, and it goes on as soon as it is there."""

from __future__ import annotations

from kubernetes import client
from tests.tools.node import Node
from tests.tools.node_job import SECRET, NodeJob

SAID_WITHIN_SECONDS = 45  # of which the pods' creation takes a part


def test_a_job_says_what_it_waits_for_and_goes_on(node: Node, job: NodeJob):
    """ "Starting" for hours is what users of such operators complain of most; and a job that is
    deleted in the middle must leave nothing that holds a GPU."""
    core = client.CoreV1Api(node.control_plane.client)
    core.delete_namespaced_secret(SECRET, job.namespace)
    gate = job.hold_at_step(1)
    job.apply(
        compute={"device": "cpu", "worker": {"cpu": "300m", "memory": "3Gi", "gpus": 1}},
    )
    job.await_reason("SecretMissing", timeout_seconds=SAID_WITHIN_SECONDS)

    job.create_secret()
    job.await_reason("Unschedulable")
    assert "nvidia.com/gpu" in job.read_message()
    node.set_gpus(1)
    job.await_step(gate)
    assert {one["reason"] for one in job.read_status()["attempts"]} <= {"", "Succeeded"}
    job.delete()
