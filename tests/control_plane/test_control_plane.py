"""The test cluster itself: what other tests rely on must be so, and nothing may be left over."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from tests.tools.build_tools import SOURCES
from tests.tools.control_plane import ROOT, ControlPlane
from tests.tools.custom_objects import FineTuneJobs
from tests.tools.waiting import wait_until

EXAMPLE = ROOT / "examples" / "support-tickets" / "job.yaml"
GARBAGE_TIMEOUT_SECONDS = 60


def test_it_is_the_version_that_is_pinned(control_plane: ControlPlane):
    """A server that calls itself v0.0.0 is refused by Helm charts and clients."""
    pinned = re.search(r"k8s.io/kubernetes (v\S+)", (SOURCES / "kubernetes/go.mod").read_text())
    assert pinned
    assert client.VersionApi(control_plane.client).get_code().git_version == pinned[1]


def test_a_crash_loses_nothing(control_plane: ControlPlane, namespace: str):
    """Tests of the operator kill the API server: what was written before must be there after."""
    core = client.CoreV1Api(control_plane.client)
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "kept"}, "data": {"a": "b"}})
    control_plane.kill_apiserver()
    control_plane.start_apiserver()
    assert core.read_namespaced_config_map("kept", namespace).data == {"a": "b"}


def test_a_service_account_has_its_own_rights_only(control_plane: ControlPlane, namespace: str):
    """With RBAC off or an administrator's token, a missing rule of the operator stays unseen."""
    kubeconfig = control_plane.create_kubeconfig(namespace, "default")
    with (
        config.new_client_from_config(str(kubeconfig)) as poor,
        pytest.raises(ApiException, match="Forbidden"),
    ):
        client.CoreV1Api(poor).list_namespaced_secret(namespace)


def test_children_go_with_their_owner(control_plane: ControlPlane, namespace: str):
    """Deletion of a job is left to owner references: here they must work as in any cluster."""
    job = FineTuneJobs(control_plane.client, namespace).create(read_example())
    owner = {
        "apiVersion": job["apiVersion"],
        "kind": job["kind"],
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
    }
    rayjob = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": "child", "ownerReferences": [owner]},
        "spec": {"entrypoint": "true"},
    }
    api = client.CustomObjectsApi(control_plane.client)
    rayjobs = {"group": "ray.io", "version": "v1", "plural": "rayjobs", "namespace": namespace}
    api.create_namespaced_custom_object(**rayjobs, body=rayjob)
    FineTuneJobs(control_plane.client, namespace).delete(owner["name"])
    wait_until(
        lambda: not api.list_namespaced_custom_object(**rayjobs)["items"],
        "the end of the RayJob",
        GARBAGE_TIMEOUT_SECONDS,
    )


def read_example() -> dict[str, Any]:
    """A FineTuneJob of the examples."""
    manifest: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text("utf-8"))
    return manifest
