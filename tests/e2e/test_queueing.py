"""Kueue decides when a job runs; the job says so, and loses neither its place nor its progress."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tools.kueue_tool import (
    PRIORITY_LABEL,
    QUEUE,
    QUEUE_LABEL,
    Queue,
    install_kueue,
)
from tests.tools.node import Node
from tests.tools.node_job import NodeJob, Storage

CPU_OF_ONE_JOB = "700m"  # head, worker and submitter ask for 600m, without a worker for 300m
PREEMPTED_AT = 4


@pytest.fixture
def queue(node: Node, namespace: str, tmp_path: Path) -> Queue:
    """A queue that admits nothing yet. Kueue stays; jobs without its label are none of its."""
    install_kueue(node, tmp_path)
    return Queue(node, namespace, CPU_OF_ONE_JOB)


def test_a_job_waits_is_preempted_and_resumes(
    node: Node, queue: Queue, job: NodeJob, storage: Storage, namespace: str, tmp_path: Path
):
    """Charged for its preemptions, a job of low priority would fail where it is merely patient."""
    gate = job.hold_at_step(PREEMPTED_AT)
    job.apply(labels={QUEUE_LABEL: QUEUE, PRIORITY_LABEL: "low"})
    job.await_reason("Queued")
    assert "queue" in job.read_message()
    assert not job.list_pods()

    queue.open()
    job.await_step(gate)
    urgent = NodeJob(node.control_plane.client, namespace, storage, tmp_path / "urgent", "urgent")
    urgent.apply(labels={QUEUE_LABEL: QUEUE, PRIORITY_LABEL: "high"})
    job.await_reason("Queued")
    losses = job.read_newest_losses()
    assert len(losses) == PREEMPTED_AT - 1
    gate.open()
    urgent.await_reason("Preparing", "Training")
    assert not job.list_pods()

    urgent.delete()
    status = job.await_success()
    assert {one["reason"] for one in status["attempts"]} == {"Succeeded"}
    assert job.read_json("training/result.json")["losses"][: len(losses)] == losses
    assert job.list_events("training_started")[-1]["step"] >= PREEMPTED_AT - 1
