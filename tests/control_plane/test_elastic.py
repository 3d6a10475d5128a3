"""An elastic job whose workers do not all find room; the test plays KubeRay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.tools.operator_process import RUN_KEY, OperatorProcess, Stage
from tests.tools.waiting import wait_until

RAY_CLUSTERS = {"group": "ray.io", "version": "v1", "plural": "rayclusters"}
TRAINS = "grows-train-a2"
CLUSTER = f"{TRAINS}-x7k2p"


def create_cluster(stage: Stage, ray_job: dict[str, Any]) -> None:
    """As KubeRay makes it of a RayJob."""
    body = {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": CLUSTER},
        "spec": ray_job["spec"]["rayClusterSpec"],
    }
    stage.custom.create_namespaced_custom_object(
        **RAY_CLUSTERS, namespace=stage.namespace, body=body
    )


def list_clusters(stage: Stage) -> list[dict[str, Any]]:
    found = stage.custom.list_namespaced_custom_object(**RAY_CLUSTERS, namespace=stage.namespace)
    return list(found["items"])


def read_group(stage: Stage) -> dict[str, Any]:
    (cluster,) = list_clusters(stage)
    (group,) = cluster["spec"]["workerGroupSpecs"]
    return dict(group)


def describe_cluster(desired: int, **refused: str) -> dict[str, Any]:
    """What KubeRay copies of the RayCluster's status to the RayJob's."""
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreateWorkerPod"}
    conditions = [{**condition, **refused}] if refused else []
    status = {"desiredWorkerReplicas": desired, "conditions": conditions}
    return {"rayClusterName": CLUSTER, "rayClusterStatus": status}


def test_an_elastic_job_starts_with_what_the_quota_leaves(operator: OperatorProcess, stage: Stage):
    """KubeRay submits a job when all its pods run: one of two workers would hold its GPU until a
    quota grows. The RayCluster is changed in the numbers that matter and in nothing else."""
    stage.apply("grows", compute={"workers": {"min": 1, "max": 2}})
    stage.await_ray_job("grows-prepare-a1")
    stage.succeed("grows-prepare-a1", 1, run_key=RUN_KEY, method="lora")
    ray_job = stage.await_ray_job(TRAINS)
    create_cluster(stage, ray_job)
    before = read_group(stage)
    for role in ("head", "worker"):
        stage.create_pod(TRAINS, ray_job, role)
    since = datetime.now(UTC) - timedelta(minutes=1)
    refused = describe_cluster(
        2,
        message="pods are forbidden: exceeded quota: team",
        lastTransitionTime=since.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    stage.set_ray_job(TRAINS, jobDeploymentStatus="Initializing", jobId="j", **refused)
    wait_until(lambda: read_group(stage)["replicas"] == 1, "one worker to be enough")

    running = {"jobStatus": "RUNNING", "jobDeploymentStatus": "Running"}
    stage.set_ray_job(TRAINS, **running, **describe_cluster(1))
    wait_until(lambda: read_group(stage)["replicas"] == 2, "the other to be asked for again")
    assert read_group(stage) == {**before, "scaleStrategy": {"workersToDelete": []}}
    stage.set_ray_job(TRAINS, **running, **describe_cluster(2))
    stage.await_reason("grows", "Training")
    stage.publish(TRAINS, 2)
    wait_until(lambda: not list_clusters(stage), "the workers to be let go")
