"""What runs on the test node besides the tests: KubeRay's operator; and what all pods say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

NUM_LOG_LINES = 60


def build_kuberay(image: str) -> list[dict[str, Any]]:
    """KubeRay's operator. In the cluster, because it finds head pods by the cluster's names."""
    metadata = {"name": "kuberay", "namespace": "kuberay"}
    container = {
        "name": "manager",
        "image": image,
        "imagePullPolicy": "Never",
        "args": ["--enable-leader-election=false"],
    }
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kuberay"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "kuberay"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [{"kind": "ServiceAccount", **metadata}],
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": {"app": "kuberay"}},
                "template": {
                    "metadata": {"labels": {"app": "kuberay"}},
                    "spec": {"serviceAccountName": "kuberay", "containers": [container]},
                },
            },
        },
    ]


def describe_pods(api_client: client.ApiClient) -> Iterator[tuple[str, str]]:
    """Title and text of what one looks at when a test failed: events, pods' states and logs."""
    core = client.CoreV1Api(api_client)
    yield "events", "\n".join(_describe_events(core))
    for pod in core.list_pod_for_all_namespaces().items:
        name = f"{pod.metadata.namespace}/{pod.metadata.name}"
        yield f"pod {name}", "\n".join(_describe_pod(core, pod))


def _describe_events(core: client.CoreV1Api) -> list[str]:
    events = core.list_event_for_all_namespaces().items
    lines = [
        f"{event.last_timestamp or event.metadata.creation_timestamp} {event.reason} "
        f"{event.involved_object.kind} {event.metadata.namespace}/{event.involved_object.name}: "
        f"{event.message}"
        for event in events
    ]
    return sorted(lines)


def _describe_pod(core: client.CoreV1Api, pod: Any) -> Iterator[str]:
    yield f"phase {pod.status.phase} {pod.status.message or ''}"
    for state in [
        *(pod.status.init_container_statuses or []),
        *(pod.status.container_statuses or []),
    ]:
        yield f"container {state.name}: {state.state.to_dict()}"
        try:
            yield core.read_namespaced_pod_log(
                pod.metadata.name,
                pod.metadata.namespace,
                container=state.name,
                tail_lines=NUM_LOG_LINES,
            )
        except ApiException as error:
            yield f"(no log: {error.reason})"
