"""A pod that runs out of memory is given more."""

from __future__ import annotations

from tests.tools.node_job import NodeJob

TOO_LITTLE = "1800Mi"  # a worker that leads and trains takes about 2300


def test_a_job_that_ran_out_of_memory_gets_more(job: NodeJob):
    """Without it a job ends over a guess of its user, after hours perhaps."""
    job.apply(compute={"worker": {"cpu": "300m", "memory": TOO_LITTLE}}, backoffLimit=3)
    status = job.await_success(timeout_seconds=400)
    reasons = [one["reason"] for one in status["attempts"]]
    assert set(reasons) == {"HostOutOfMemory", "Succeeded"}
    assert [one["charged"] for one in status["attempts"]] == [
        reason == "HostOutOfMemory" for reason in reasons
    ]
