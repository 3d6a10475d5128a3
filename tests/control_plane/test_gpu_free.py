"""GPU seconds held while a remote teacher writes: none, by the objects and by the meter."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tools.control_plane import ControlPlane
from tests.tools.operator_process import OperatorProcess, Stage, run_operator
from tests.tools.remote_teacher import TEACHER
from tests.tools.waiting import wait_until

from loam_operator.gpu_time import SAMPLE_SECONDS

HELD = "loam_operator_gpu_held_seconds_total"
GPUS = {"workers": {"max": 2}, "worker": {"gpus": 1}}


def count_held(operator: OperatorProcess, stage: Stage) -> float:
    """GPU seconds of a namespace."""
    return operator.count(f'{HELD}{{job_namespace="{stage.namespace}"')


def hold_a_gpu(stage: Stage) -> None:
    """Another team's job, whose GPU seconds tell that the meter runs."""
    stage.apply("clock", compute={"worker": {"gpus": 1}})
    stage.await_ray_job("clock-prepare-a1")
    stage.succeed("clock-prepare-a1", 1)
    ray_job = stage.await_ray_job("clock-train-a2")
    stage.create_pod("clock-train-a2", ray_job, "worker", node="node-1")


def test_no_gpu_is_held_while_a_remote_teacher_writes(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
):
    """A teacher takes hours for what costs cents, and eight GPUs that wait for it cost hundreds: a
    job that trains on GPUs has none, and asks for none, until its data is there."""
    stage = Stage(control_plane.client, namespace)
    other = Stage(control_plane.client, control_plane.create_namespace())
    settings = {"LOAM_NAMESPACES": f"{namespace},{other.namespace}", "POD_NAMESPACE": namespace}
    with run_operator(control_plane.kubeconfig, tmp_path / "operator.log", **settings) as operator:
        synthesis = {"targetCount": 10, "teacher": TEACHER}
        stage.apply("taught", compute=GPUS, synthesis=synthesis)
        prepare = stage.await_ray_job("taught-prepare-a1")
        assert not prepare["spec"]["rayClusterSpec"].get("workerGroupSpecs")
        assert "nvidia.com/gpu" not in json.dumps(prepare)
        stage.create_pod("taught-prepare-a1", prepare, "head", node="node-1")
        stage.set_ray_job("taught-prepare-a1", jobStatus="RUNNING", jobDeploymentStatus="Running")
        stage.say("taught-prepare-a1", 1, stage="synthesize", summary="synthesize 50 %")
        stage.await_reason("taught", "Preparing")
        hold_a_gpu(other)
        wait_until(lambda: count_held(operator, other) >= SAMPLE_SECONDS, "the meter's next look")
        assert count_held(operator, stage) == 0
        assert [one["metadata"]["name"] for one in stage.list_ray_jobs()] == ["taught-prepare-a1"]
        stage.succeed("taught-prepare-a1", 1)
        train = stage.await_ray_job("taught-train-a2")
        (workers,) = train["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        (container,) = workers["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        stage.create_pod("taught-train-a2", train, "worker", node="node-1")
        wait_until(lambda: count_held(operator, stage) > 0, "the meter to see its GPU")
