"""The operator is killed, the job suspended and resumed: nothing is made twice, nothing lost."""

from __future__ import annotations

from kubernetes import client
from tests.tools.node import Node
from tests.tools.node_job import NodeJob
from tests.tools.waiting import wait_until

SYSTEM = "loam-system"
SUSPENDED_AT = 5


def test_a_job_outlives_the_operator_and_a_suspension(node: Node, job: NodeJob):
    """A second RayJob for one attempt would train into the first one's checkpoints; a resumed job
    that began anew would waste what was paid for."""
    gate = job.hold_at_step(SUSPENDED_AT)
    job.apply()
    job.await_step(gate)
    before = sorted(one["metadata"]["uid"] for one in job.list_ray_jobs())

    kill_operator(node)
    job.patch({"suspend": True})
    job.await_reason("Suspended")
    assert not job.list_pods()
    (suspended,) = [one for one in job.read_status()["attempts"] if one["reason"] == "Suspended"]
    assert suspended["uid"] in before
    losses = job.read_newest_losses()
    assert len(losses) >= SUSPENDED_AT - 1

    gate.open()
    kill_operator(node)
    job.patch({"suspend": False})
    status = job.await_success()
    assert {one["reason"] for one in status["attempts"]} == {"Suspended", "Succeeded"}
    assert not any(one["charged"] for one in status["attempts"])
    assert job.read_json("training/result.json")["losses"][: len(losses)] == losses
    assert job.list_events("training_started")[-1]["step"] >= SUSPENDED_AT - 1
    heads = list(job.read_claims().values())
    assert len(heads) == len(set(heads)) == len(status["attempts"])
    job.delete()


def kill_operator(node: Node) -> None:
    """End the operator without a word; return when another one leads."""
    core = client.CoreV1Api(node.control_plane.client)
    (old,) = core.list_namespaced_pod(SYSTEM).items
    core.delete_namespaced_pod(old.metadata.name, SYSTEM, grace_period_seconds=0)

    def is_replaced() -> bool:
        return any(
            pod.metadata.uid != old.metadata.uid
            and any(state.ready for state in pod.status.container_statuses or [])
            for pod in core.list_namespaced_pod(SYSTEM).items
        )

    wait_until(is_replaced, "another operator")
