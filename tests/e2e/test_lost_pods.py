"""Two Ray workers train; a worker, then the head is lost: the losses are those of a quiet run."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
from tests.tools.node_job import NodeJob

NUM_WORKERS = 2
WORKER_LOST_AT, HEAD_LOST_AT = 4, 8


def test_a_job_outlives_its_worker_and_its_head(job: NodeJob):
    """Ray heals the worker inside the attempt, the operator the head by a new attempt; were
    anything trained twice over, forgotten, or by two at once, the curves would not be one."""
    gate = job.hold_at_step(WORKER_LOST_AT)
    job.apply(compute={"workers": {"min": NUM_WORKERS, "max": NUM_WORKERS}})
    job.await_step(gate)
    check_dashboard_is_closed(job)
    assert 'loam_stage_state{stage="train",state="running"} 1.0' in job.scrape()

    (ray_job,) = find_training(job)
    before = job.read_newest_losses()
    assert len(before) == WORKER_LOST_AT - 1
    worker = job.list_pods("worker")[0]
    job.kill_pod(worker)
    gate.open()
    gate = job.hold_at_step(HEAD_LOST_AT)
    job.await_step(gate)
    assert len(job.list_pods("worker")) == NUM_WORKERS
    assert [one["metadata"]["uid"] for one in find_training(job)] == [ray_job["metadata"]["uid"]]

    later = job.read_newest_losses()
    assert later[: len(before)] == before
    assert len(later) == HEAD_LOST_AT - 1
    (head,) = job.list_pods("head")
    job.kill_pod(head)
    gate.open()
    # A head that KubeRay put in the lost one's place hears of its end before it listens, and takes
    # its whole grace period of two minutes.
    status = job.await_success(timeout_seconds=360)
    reasons = [one["reason"] for one in status["attempts"]]
    assert reasons.count("HeadLost") == 1
    assert set(reasons) == {"HeadLost", "Succeeded"}
    assert not any(one["charged"] for one in status["attempts"])

    losses = job.read_json("training/result.json")["losses"]
    assert losses[: len(later)] == later
    assert job.list_events("training_started")[-1]["step"] >= HEAD_LOST_AT - 1
    check_claims(job, len(reasons))
    job.delete()


def find_training(job: NodeJob) -> list[dict]:
    """The RayJobs of the job that have workers' pods."""
    attempts = {pod.metadata.labels["loam.dev/attempt"] for pod in job.list_pods("worker")}
    return [
        one
        for one in job.list_ray_jobs()
        if one["metadata"]["labels"]["loam.dev/attempt"] in attempts
    ]


def check_dashboard_is_closed(job: NodeJob) -> None:
    """Whoever reaches an open dashboard runs what he likes with the job's credentials."""
    (head,) = job.list_pods("head")
    request = urllib.request.Request(
        f"http://{head.status.pod_ip}:8265/api/jobs/",
        data=b'{"entrypoint": "true"}',
        headers={"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code in (401, 403)


def check_claims(job: NodeJob, num_attempts: int) -> None:
    """One head, and so one training, for each attempt."""
    heads = list(job.read_claims().values())
    assert len(heads) == len(set(heads)) == num_attempts
