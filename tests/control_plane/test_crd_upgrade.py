"""The definition of jobs becomes another one under jobs that run, and the old one again."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client
from tests.tools.control_plane import CRDS, ControlPlane
from tests.tools.operator_process import OperatorProcess, Stage
from tests.tools.waiting import wait_until

CRD = "finetunejobs.loam.dev"
FIELD = "yetUnknown"


class Definition:
    """The CRD on the server."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._api = client.CustomObjectsApi(control_plane.client)
        self._real = self._read()

    def add_field(self) -> None:
        """As a later version of Loam would: optional, with a default."""
        newer = copy.deepcopy(self._real)
        schema = newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        schema["properties"]["spec"]["properties"][FIELD] = {"type": "string", "default": "some"}
        self._put(newer)

    def restore(self) -> None:
        self._put(self._real)

    def _put(self, crd: dict[str, Any]) -> None:
        version = self._read()["metadata"]["resourceVersion"]
        body = {**crd, "metadata": {**crd["metadata"], "resourceVersion": version}}
        self._api.replace_cluster_custom_object(**CRDS, name=CRD, body=body)

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = self._api.get_cluster_custom_object(**CRDS, name=CRD)
        return found


@pytest.fixture
def definition(control_plane: ControlPlane) -> Iterator[Definition]:
    definition = Definition(control_plane)
    yield definition
    definition.restore()


def test_running_jobs_survive_a_newer_definition(
    operator: OperatorProcess, stage: Stage, definition: Definition
):
    """CRDs are upgraded before the operator, and rolled back after it: meanwhile every job that is
    read has a field that the operator has never heard of. To fail them for it would end days of
    training."""
    start_training(stage, "old")
    definition.add_field()
    wait_until(lambda: FIELD in stage.get_job("old")["spec"], "the newer definition")
    stage.say("old-train-a2", 2, stage="evaluate", summary="evaluate 1 %")
    stage.await_reason("old", "Finishing")
    lose(stage, "old-train-a2")
    second = stage.await_ray_job("old-train-a3")
    manifest = stage.core.read_namespaced_config_map("old-manifest", stage.namespace)
    assert FIELD not in manifest.data["job.yaml"]  # nor does the runtime know it
    definition.restore()
    wait_until(lambda: FIELD not in stage.get_job("old")["spec"], "the real definition")
    assert stage.await_ray_job("old-train-a3")["metadata"]["uid"] == second["metadata"]["uid"]
    stage.publish("old-train-a3", 3)
    job = stage.await_reason("old", "Succeeded")
    reasons = [one["reason"] for one in job["status"]["attempts"]]
    assert reasons == ["Succeeded", "HeadLost", "Succeeded"]


def start_training(stage: Stage, name: str) -> None:
    stage.apply(name)
    stage.await_ray_job(f"{name}-prepare-a1")
    stage.succeed(f"{name}-prepare-a1", 1)
    stage.await_ray_job(f"{name}-train-a2")
    play = {"jobStatus": "RUNNING", "jobDeploymentStatus": "Running"}
    stage.set_ray_job(f"{name}-train-a2", **play)
    stage.say(f"{name}-train-a2", 2, stage="train", summary="train 1 %")
    stage.await_reason(name, "Training")


def lose(stage: Stage, ray_job: str) -> None:
    """Somebody deletes it."""
    stage.custom.delete_namespaced_custom_object(
        group="ray.io", version="v1", plural="rayjobs", namespace=stage.namespace, name=ray_job
    )
