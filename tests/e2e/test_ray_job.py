"""The node runs what Loam stands on: a RayJob of several pods with Loam's runtime image."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from kubernetes import client
from tests.tools.node import Node
from tests.tools.waiting import wait_until

TIMEOUT_SECONDS = 180
NUM_WORKERS = 2
RAYJOBS = {"group": "ray.io", "version": "v1", "plural": "rayjobs"}
# Each worker answers with the name of its host: as many names as pods.
PROGRAM = (
    "import ray, socket, time; ray.init(); "
    "ask = ray.remote(num_cpus=1)(lambda: (time.sleep(1), socket.gethostname())[1]); "
    f"hosts = set(ray.get([ask.remote() for _ in range({2 * NUM_WORKERS})])); "
    f"assert len(hosts) == {NUM_WORKERS}, hosts"
)


def test_a_ray_job_spreads_over_its_pods(node: Node, runtime_image: str, namespace: str):
    """Were image, network, DNS or KubeRay broken, every test of a FineTuneJob would fail so."""
    api = client.CustomObjectsApi(node.control_plane.client)
    place = {**RAYJOBS, "namespace": namespace}
    api.create_namespaced_custom_object(**place, body=build_ray_job(runtime_image))

    def read_end() -> str:
        status = api.get_namespaced_custom_object(**place, name="hosts").get("status", {})
        state = status.get("jobStatus", "")
        return state if state in ("SUCCEEDED", "FAILED", "STOPPED") else ""

    assert wait_until(read_end, "the RayJob's end", TIMEOUT_SECONDS) == "SUCCEEDED"


def build_ray_job(image: str) -> dict[str, Any]:
    """A RayJob as restricted as Loam's own."""
    workers = {
        "groupName": "workers",
        "replicas": NUM_WORKERS,
        "minReplicas": NUM_WORKERS,
        "maxReplicas": NUM_WORKERS,
        "rayStartParams": {"num-cpus": "1"},
        "template": build_pod(image, "300m", "worker"),
    }
    head = {
        "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
        "template": build_pod(image, "200m", "head"),
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": "hosts"},
        "spec": {
            "entrypoint": f'python -c "{PROGRAM}"',
            "shutdownAfterJobFinishes": True,
            "submitterPodTemplate": build_pod(image, "100m", "submitter", restart_policy="Never"),
            "rayClusterSpec": {
                "rayVersion": version("ray"),
                "headGroupSpec": head,
                "workerGroupSpecs": [workers],
            },
        },
    }


def build_pod(image: str, cpu: str, name: str, restart_policy: str = "Always") -> dict[str, Any]:
    """A pod that the restricted level of pod security lets pass, on a read-only file system."""
    container = {
        "name": name,
        "image": image,
        "imagePullPolicy": "Never",
        "resources": {"requests": {"cpu": cpu, "memory": "512Mi"}, "limits": {"memory": "4Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
    }
    return {
        "spec": {
            "containers": [container],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
            "restartPolicy": restart_policy,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        }
    }
