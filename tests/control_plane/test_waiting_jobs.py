"""A job that cannot start says what it waits for; the test plays KubeRay and the kubelet."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes import client
from tests.tools.operator_process import OperatorProcess, Stage

MOST_SECONDS = 30
REFUSAL = 'pods "x-head" is forbidden: exceeded quota: team, requested: cpu=2, limited: cpu=1'


def read_message(job: dict[str, Any]) -> str:
    return str(
        next(one["message"] for one in job["status"]["conditions"] if one["type"] == "Ready")
    )


def refuse_pods(stage: Stage, name: str) -> None:
    """As KubeRay tells of it: in the RayCluster's status, which it copies to the RayJob's."""
    condition = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreateHeadPod",
        "message": f"FailedCreateHeadPod\n{REFUSAL}",
        "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    status = {"conditions": [condition]}
    stage.set_ray_job(name, jobDeploymentStatus="Initializing", rayClusterStatus=status)


def miss_a_volume(stage: Stage, name: str) -> None:
    """As the kubelet tells of it: in an event, and nowhere else."""
    uid = stage.create_pod(name, stage.await_ray_job(name), "head", phase="Pending")
    stage.warn("Pod", f"{name}-head", uid, "FailedMount", 'configmap "data" not found')


def refuse_the_submitter(stage: Stage, name: str) -> None:
    """As KubeRay tells of it: in an event about the RayJob."""
    uid = stage.await_ray_job(name)["metadata"]["uid"]
    words = "Failed to create new Kubernetes Job: exceeded quota: team"
    stage.warn("RayJob", name, uid, "FailedToCreateRayJobSubmitter", words)


@pytest.mark.parametrize(
    ("cause", "state", "words"),
    [
        (refuse_pods, "QuotaExceeded", REFUSAL),
        (miss_a_volume, "VolumeMissing", 'configmap "data" not found'),
        (refuse_the_submitter, "QuotaExceeded", "exceeded quota: team"),
    ],
)
def test_a_stuck_job_says_what_it_waits_for(
    operator: OperatorProcess,
    stage: Stage,
    cause: Callable[[Stage, str], None],
    state: str,
    words: str,
):
    """What one sees otherwise is "Initializing", for as long as one cares to look."""
    stage.apply("stuck")
    name = stage.await_first_ray_job("stuck")
    started = time.monotonic()
    cause(stage, name)
    job = stage.await_reason("stuck", state)
    assert time.monotonic() - started < MOST_SECONDS
    assert words in read_message(job)
    stage.set_ray_job(name, jobStatus="RUNNING", jobDeploymentStatus="Running")
    stage.await_reason("stuck", "Preparing")


def test_a_real_quota_is_named(operator: OperatorProcess, stage: Stage):
    """The API server refuses the operator itself: its log is no place for that."""
    hard = {"count/configmaps": "1"}  # the one that every namespace has
    quota = client.V1ResourceQuota(
        metadata={"name": "team"}, spec=client.V1ResourceQuotaSpec(hard=hard)
    )
    stage.core.create_namespaced_resource_quota(stage.namespace, quota)
    status = {"status": {"hard": hard, "used": hard}}  # as the quota's controller has counted
    stage.core.patch_namespaced_resource_quota_status("team", stage.namespace, status)
    stage.apply("many")
    job = stage.await_reason("many", "QuotaExceeded")
    assert "exceeded quota: team" in read_message(job)
    stage.core.delete_namespaced_resource_quota("team", stage.namespace)
    stage.await_first_ray_job("many")
    stage.await_reason("many", "Starting")
