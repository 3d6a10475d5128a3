"""The chart's life by Helm itself, on a real API server, with jobs that are there all the while.

A release that hangs on its way out, or that stops training when it is upgraded, is found out in
production otherwise.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from tests.tools.control_plane import CRDS, ROOT, ControlPlane
from tests.tools.helm_tool import run_helm, try_helm
from tests.tools.operator_process import OperatorProcess, Stage, run_operator
from tests.tools.waiting import wait_until

CHART = ROOT / "charts" / "loam"
CRD = "finetunejobs.loam.dev"


class Release:
    """One installation."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.system = control_plane.create_namespace()
        self.name = self.system  # its cluster-wide objects are called by it
        self._common = ["--namespace", self.system, "--kubeconfig", str(control_plane.kubeconfig)]

    def install(self, chart: Path, *settings: str) -> None:
        # The CRD is there already, put by hand.
        self._run("install", str(chart), "--take-ownership", settings=settings)

    def upgrade(self, chart: Path, *settings: str) -> None:
        # Fields of a CRD that was put by hand are that hand's until they are taken.
        self._run("upgrade", str(chart), "--force-conflicts", settings=settings)

    def roll_back(self, revision: int) -> None:
        self._run("rollback", str(revision), "--force-conflicts")

    def uninstall(self) -> None:
        self._run("uninstall")

    def _run(self, verb: str, *arguments: str, settings: tuple[str, ...] = ()) -> None:
        chosen = [part for one in settings for part in ("--set", one)]
        run_helm(verb, self.name, *arguments, *self._common, *chosen)


@pytest.fixture
def release(control_plane: ControlPlane) -> Release:
    return Release(control_plane)


@pytest.fixture
def stage(control_plane: ControlPlane, namespace: str) -> Stage:
    return Stage(control_plane.client, namespace)


@pytest.fixture
def operator(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> Iterator[OperatorProcess]:
    settings = {"LOAM_NAMESPACES": namespace, "POD_NAMESPACE": namespace}
    with run_operator(control_plane.kubeconfig, tmp_path / "operator.log", **settings) as running:
        yield running


def copy_chart(folder: Path) -> Path:
    """The chart of a later version, whose CRD has changed."""
    chart = folder / "loam"
    shutil.copytree(CHART, chart)
    crd = chart / "templates" / "crds" / "finetunejobs.yaml"
    crd.write_text(crd.read_text().replace("    - ftj\n", "    - ftj\n    - ftjob\n", 1))
    return chart


def find_short_names(control_plane: ControlPlane) -> list[str]:
    api = client.CustomObjectsApi(control_plane.client)
    names: list[str] = api.get_cluster_custom_object(**CRDS, name=CRD)["spec"]["names"][
        "shortNames"
    ]
    return names


def start_training(stage: Stage) -> dict[str, Any]:
    """A job that has come to its training; returns its RayJob."""
    stage.apply("busy")
    stage.await_ray_job("busy-prepare-a1")
    stage.succeed("busy-prepare-a1", 1)
    stage.await_ray_job("busy-train-a2")
    stage.set_ray_job("busy-train-a2", jobStatus="RUNNING", jobDeploymentStatus="Running")
    stage.say("busy-train-a2", 2, stage="train", summary="train 1 %")
    stage.await_reason("busy", "Training")
    return stage.await_ray_job("busy-train-a2")


def list_left(control_plane: ControlPlane, release: Release) -> list[str]:
    """What of a release is still on the server."""
    label = {"label_selector": f"app.kubernetes.io/instance={release.name}"}
    access = client.RbacAuthorizationV1Api(control_plane.client)
    core = client.CoreV1Api(control_plane.client)
    apps = client.AppsV1Api(control_plane.client)
    found = [
        *apps.list_deployment_for_all_namespaces(**label).items,
        *core.list_service_account_for_all_namespaces(**label).items,
        *core.list_config_map_for_all_namespaces(**label).items,
        *access.list_role_for_all_namespaces(**label).items,
        *access.list_role_binding_for_all_namespaces(**label).items,
        *access.list_cluster_role(**label).items,
        *access.list_cluster_role_binding(**label).items,
    ]
    return [f"{type(one).__name__} {one.metadata.name}" for one in found]


def test_upgrade_and_rollback_leave_a_running_job_alone(
    control_plane: ControlPlane,
    release: Release,
    stage: Stage,
    operator: OperatorProcess,
    tmp_path: Path,
):
    """The definition of jobs changes under a job that trains: days of GPU time hang on its being
    neither touched nor forgotten, and the operator must go on hearing of it."""
    release.install(CHART)
    before = start_training(stage)
    release.upgrade(copy_chart(tmp_path))
    wait_until(lambda: "ftjob" in find_short_names(control_plane), "the new definition")
    assert stage.await_ray_job("busy-train-a2") == before
    release.roll_back(1)
    wait_until(lambda: "ftjob" not in find_short_names(control_plane), "the old definition")
    assert stage.await_ray_job("busy-train-a2") == before
    assert stage.get_job("busy")["status"]["phase"] == "Training"
    stage.publish("busy-train-a2", 2)
    stage.await_reason("busy", "Succeeded")
    release.uninstall()


def test_uninstalling_leaves_the_jobs_and_nothing_that_hangs(
    control_plane: ControlPlane, release: Release, stage: Stage, tmp_path: Path
):
    """A finalizer of an operator that is gone would keep namespaces from ever being deleted, and a
    CRD that went along would take all jobs and their results' record with it."""
    release.install(CHART, "dashboards.enabled=true")
    settings = {"LOAM_NAMESPACES": stage.namespace, "POD_NAMESPACE": stage.namespace}
    with run_operator(control_plane.kubeconfig, tmp_path / "operator.log", **settings):
        ray_job = start_training(stage)
    assert list_left(control_plane, release)
    release.uninstall()
    assert not list_left(control_plane, release)
    assert find_short_names(control_plane)
    assert stage.await_ray_job("busy-train-a2")["metadata"]["uid"] == ray_job["metadata"]["uid"]
    for one in (stage.get_job("busy"), ray_job):
        assert not one["metadata"].get("finalizers")
    control_plane.delete_namespace(stage.namespace)  # returns once it is gone


def test_a_namespaced_release_stays_in_its_namespaces(
    control_plane: ControlPlane, release: Release, namespace: str
):
    """A team's own installation must get by, and go, without any right in the cluster."""
    chosen = ("profiles=ignored", "userRoles=false", "crds.install=false")
    release.install(CHART, f"namespaces={{{namespace}}}", *chosen)
    left = list_left(control_plane, release)
    assert any(one.startswith("V1Role ") for one in left)
    assert not [one for one in left if one.startswith("V1ClusterRole")]
    release.uninstall()
    assert not list_left(control_plane, release)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("workers=0", "/workers"),
        ("workers=many", "/workers"),
        ("namespaces={Team A}", "/namespaces/0"),
        ("images.operator.pullPolicy=Sometimes", "/images/operator/pullPolicy"),
        ("images.runtime.repository=", "/images/runtime/repository"),
        ("podMonitor.interval=often", "/podMonitor/interval"),
        ("dashboards.label.a=b", "'label' not allowed"),
        ("alerts.labels.a=1", "/alerts/labels/a"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(setting: str, named: str):
    """Helm's own word for a value that the schema refuses must lead to it; accepted, it would come
    out as a pod that does not start."""
    done = try_helm("template", "loam", str(CHART), "--set", setting)
    assert done.returncode != 0
    assert named in done.stderr.replace(".", "/") or named in done.stderr, done.stderr
