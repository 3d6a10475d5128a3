"""A job with a judge of answers: what asks it has pods of its own, and none of them a GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.control_plane.test_gpu_free import count_held, hold_a_gpu
from tests.tools.control_plane import ControlPlane
from tests.tools.operator_process import (
    RUN_KEY,
    OperatorProcess,
    Stage,
    read_conditions,
    run_operator,
)
from tests.tools.waiting import wait_until

from loam_operator.gpu_time import SAMPLE_SECONDS

JUDGE = {
    "baseURL": "https://judge.example/v1",
    "model": "large",
    "apiKeySecretRef": {"name": "judge", "key": "KEY"},
}
SPEC: dict[str, Any] = {
    "data": {"task": "generation", "seeds": {"uri": "s3://bucket/seeds.jsonl"}},
    "evaluation": {"judge": {"openai": JUDGE}},
    "compute": {"workers": {"min": 2, "max": 2}, "worker": {"gpus": 1}},
}


def get_environment(ray_job: dict[str, Any]) -> dict[str, str]:
    """What the head's container is told."""
    template = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    (container,) = template["spec"]["containers"]
    return {one["name"]: one.get("value", "") for one in container["env"]}


def list_secrets(ray_job: dict[str, Any]) -> set[str]:
    """Secrets that any pod of it mounts, by role."""
    cluster = ray_job["spec"]["rayClusterSpec"]
    groups = {"head": cluster["headGroupSpec"]}
    groups |= {one["groupName"]: one for one in cluster.get("workerGroupSpecs") or []}
    return {
        f"{role}: {volume['secret']['secretName']}"
        for role, group in groups.items()
        for volume in group["template"]["spec"]["volumes"]
        if "secret" in volume
    }


def train(stage: Stage, name: str) -> dict[str, Any]:
    """Play the steps before the last one; returns the last one's RayJob."""
    stage.apply(name, **SPEC)
    prepare = stage.await_ray_job(f"{name}-prepare-a1")
    assert list_secrets(prepare) == {"head: judge"}  # to see whether it answers
    stage.succeed(f"{name}-prepare-a1", 1, run_key=RUN_KEY)
    trains = stage.await_ray_job(f"{name}-train-a2")
    assert list_secrets(trains) == set()
    stage.create_pod(f"{name}-train-a2", trains, "worker", node="node-1")
    stage.set_ray_job(f"{name}-train-a2", jobStatus="RUNNING", jobDeploymentStatus="Running")
    stage.say(f"{name}-train-a2", 2, stage="train", summary="train 50 %")
    assert stage.await_reason(name, "Training")["status"]["gpus"] == "2"
    stage.succeed(f"{name}-train-a2", 2, run_key=RUN_KEY)
    return stage.await_ray_job(f"{name}-finish-a3")


def test_a_judge_is_asked_while_no_gpu_is_held(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
):
    """Ten minutes of a judge with eight GPUs that wait for it cost more than the judge. That the
    adapter is trained is said before; that it is published, after."""
    stage = Stage(control_plane.client, namespace)
    other = Stage(control_plane.client, control_plane.create_namespace())
    settings = {"LOAM_NAMESPACES": f"{namespace},{other.namespace}", "POD_NAMESPACE": namespace}
    with run_operator(control_plane.kubeconfig, tmp_path / "operator.log", **settings) as operator:
        finish = train(stage, "judged")
        assert not finish["spec"]["rayClusterSpec"].get("workerGroupSpecs")
        assert "nvidia.com/gpu" not in json.dumps(finish)
        assert list_secrets(finish) == {"head: judge"}
        environment = get_environment(finish)
        assert (environment["LOAM_STEP"], environment["LOAM_RUN_KEY"]) == ("finish", RUN_KEY)
        job = stage.await_reason("judged", "Finishing")
        assert (job["status"]["phase"], job["status"].get("gpus")) == ("Finishing", None)
        conditions = read_conditions(job)
        assert (conditions["Trained"], conditions["Published"]) == ("True", "False")
        stage.delete_pod("judged-train-a2-worker")  # as KubeRay does with an ended RayJob's
        held = wait_for_still(operator, stage)
        stage.create_pod("judged-finish-a3", finish, "head", node="node-1")
        stage.set_ray_job("judged-finish-a3", jobStatus="RUNNING", jobDeploymentStatus="Running")
        stage.say("judged-finish-a3", 3, stage="judge", summary="judge 10 %")
        hold_a_gpu(other)
        wait_until(lambda: count_held(operator, other) >= SAMPLE_SECONDS, "the meter's next look")
        assert count_held(operator, stage) == held
        stage.publish("judged-finish-a3", 3)
        job = stage.await_reason("judged", "Succeeded")
        assert read_conditions(job)["Published"] == "True"
        assert [one["step"] for one in job["status"]["attempts"]] == ["prepare", "train", "finish"]


def wait_for_still(operator: OperatorProcess, stage: Stage) -> float:
    """What was held by the time that nothing is."""
    gauge = f'loam_operator_gpus_held{{job_namespace="{stage.namespace}"'
    wait_until(lambda: operator.count(gauge) == 0, "the meter to see the GPUs given back")
    return count_held(operator, stage)


@pytest.mark.parametrize("disturbance", ["fails", "loses its head", "is suspended", "is retried"])
def test_what_is_left_is_tried_again_without_training(
    operator: OperatorProcess, stage: Stage, disturbance: str
):
    """Each way on from a step that needs no GPU must lead to that step: workers would start, each
    with its GPU and the model, to find nothing to do."""
    name = f"left-{disturbance.split()[-1]}"
    finish = train(stage, name)
    first = f"{name}-finish-a3"
    stage.create_pod(first, finish, "head")
    stage.set_ray_job(first, jobStatus="RUNNING", jobDeploymentStatus="Running")
    stage.say(first, 3, stage="judge", summary="judge 10 %")
    wait_until(
        lambda: stage.get_job(name)["status"]["attempts"][-1].get("headUid"), "its head to be seen"
    )
    match disturbance:
        case "fails":
            stage.fail(first, 3, 1, "The store is away.")
        case "loses its head":
            stage.delete_pod(f"{first}-head")
        case "is suspended":
            stage.change_job(name, {"spec": {"suspend": True}})
        case "is retried":
            stage.fail(first, 3, 11, "The key is refused.")
            stage.await_reason(name, "BadCredentials")
            stage.change_job(name, {"metadata": {"annotations": {"loam.dev/retry": "1"}}})
    if disturbance != "loses its head":
        stage.delete_pod(f"{first}-head")
    if disturbance == "is suspended":
        stage.await_reason(name, "Suspended")
        stage.change_job(name, {"spec": {"suspend": False}})
    again = stage.await_ray_job(f"{name}-finish-a4")
    assert get_environment(again)["LOAM_RUN_KEY"] == RUN_KEY
    job = stage.await_reason(name, "Finishing")
    assert read_conditions(job)["Trained"] == "True"
    stage.publish(f"{name}-finish-a4", 4)
    job = stage.await_reason(name, "Succeeded")
    steps = [one["step"] for one in job["status"]["attempts"]]
    assert steps == ["prepare", "train", "finish", "finish"]
