"""Kueue on the test node, installed by its own chart, with one queue that has room for one job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from tests.tools.build_tools import find_kueue_chart
from tests.tools.helm_tool import run_helm
from tests.tools.node import Node
from tests.tools.waiting import wait_until

NAMESPACE = "kueue-system"
QUEUE = "team"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
PRIORITIES = {"low": 10, "high": 100}
API = {"group": "kueue.x-k8s.io", "version": "v1beta2"}
CONFIGURATION = {
    "apiVersion": "config.kueue.x-k8s.io/v1beta2",
    "kind": "Configuration",
    "health": {"healthProbeBindAddress": ":8081"},
    "metrics": {"bindAddress": ":8443"},
    "webhook": {"port": 9443},
    "leaderElection": {"leaderElect": False},
    "integrations": {"frameworks": ["ray.io/rayjob"]},
}


def install_kueue(node: Node, folder: Path) -> None:
    """Install it; return when it runs.

    Args:
        folder: for the chart's values.
    """
    repository, tag = node.images.provide_manager("kueue").rsplit(":", 1)
    manager = {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "podSecurityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
    }
    values = {
        "controllerManager": {
            "manager": manager,
            # Its server of queue lists wants certificates that this API server has none of.
            "featureGates": [{"name": "VisibilityOnDemand", "enabled": False}],
            "readinessProbe": {"initialDelaySeconds": 1, "periodSeconds": 1},
        },
        "managerConfig": {"controllerManagerConfigYaml": json.dumps(CONFIGURATION)},
    }
    path = folder / "values.json"  # JSON is YAML
    path.write_text(json.dumps(values), encoding="utf-8")
    run_helm(
        *("install", "kueue", str(find_kueue_chart()), "--values", str(path)),
        *("--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "120s"),
        *("--kubeconfig", str(node.control_plane.kubeconfig)),
    )
    wait_until(lambda: _answers(node), "Kueue's webhooks")
    _remove_visibility(node)


def _remove_visibility(node: Node) -> None:
    """Its chart announces the server that is off; while one does not answer, the API server cannot
    list all kinds, and deletes no namespace."""
    api = client.ApiregistrationV1Api(node.control_plane.client)
    for service in api.list_api_service().items:
        if service.metadata.name.endswith(".visibility.kueue.x-k8s.io"):
            api.delete_api_service(service.metadata.name)


def _answers(node: Node) -> bool:
    """Whether its webhooks do: they have their certificates later than it says it is ready."""
    api = client.CustomObjectsApi(node.control_plane.client)
    probe = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ResourceFlavor",
        "metadata": {"name": "probe"},
    }
    try:
        api.create_cluster_custom_object(**API, plural="resourceflavors", body=probe, dry_run="All")
    except ApiException as error:
        if error.status != 500:
            raise
        return False
    return True


class Queue:
    """A queue of a namespace.

    Args:
        cpu: of all jobs together that it lets run.
    """

    def __init__(self, node: Node, namespace: str, cpu: str) -> None:
        self._api = client.CustomObjectsApi(node.control_plane.client)
        resources = [
            {"name": "cpu", "nominalQuota": cpu},
            {"name": "memory", "nominalQuota": "100Gi"},
        ]
        group = {
            "coveredResources": ["cpu", "memory"],
            "flavors": [{"name": "default", "resources": resources}],
        }
        self._create("resourceflavors", "ResourceFlavor", "default")
        for name, value in PRIORITIES.items():
            self._create("workloadpriorityclasses", "WorkloadPriorityClass", name, value=value)
        self._create(
            "clusterqueues",
            "ClusterQueue",
            QUEUE,
            spec={
                "namespaceSelector": {},
                "resourceGroups": [group],
                "preemption": {"withinClusterQueue": "LowerPriority"},
                "stopPolicy": "Hold",
            },
        )
        self._api.create_namespaced_custom_object(
            **API,
            namespace=namespace,
            plural="localqueues",
            body={
                "apiVersion": "kueue.x-k8s.io/v1beta2",
                "kind": "LocalQueue",
                "metadata": {"name": QUEUE},
                "spec": {"clusterQueue": QUEUE},
            },
        )

    def open(self) -> None:
        """Begin to admit jobs."""
        self._api.patch_cluster_custom_object(
            **API, plural="clusterqueues", name=QUEUE, body={"spec": {"stopPolicy": "None"}}
        )

    def _create(self, plural: str, kind: str, name: str, **content: Any) -> None:
        body = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": kind, "metadata": {"name": name}}
        self._api.create_cluster_custom_object(**API, plural=plural, body={**body, **content})
