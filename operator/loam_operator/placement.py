"""What a FineTuneProfile decides for the pods of a RayJob, laid over what the job asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loam_api.finetuneprofile import FineTuneProfileSpec
from loam_api.profile_pods import HeadPods, TopologySpread, WorkerPods
from loam_operator.names import JOB_UID_LABEL, ROLE_LABEL
from loam_operator.quantities import count_mib

Manifest = dict[str, Any]


def place(ray_job: Manifest, profile: FineTuneProfileSpec) -> Manifest:
    """The RayJob, changed in place: image, nodes, priority and size of its pods."""
    for pod in _list_pods(ray_job):
        role = pod["metadata"]["labels"][ROLE_LABEL]
        _place_pod(pod, profile.pods.worker if role == "worker" else profile.pods.head)
        (container,) = pod["spec"]["containers"]
        if profile.pods.image:
            container["image"] = profile.pods.image
        if profile.pods.priority_class_name:
            pod["spec"]["priorityClassName"] = profile.pods.priority_class_name
        if profile.pods.shared_memory:
            _set_shared_memory(pod, profile.pods.shared_memory)
        if profile.limits.memory_per_pod:
            _cap_memory(container["resources"], profile.limits.memory_per_pod)
    return ray_job


def _list_pods(ray_job: Manifest) -> Iterator[Manifest]:
    cluster = ray_job["spec"]["rayClusterSpec"]
    yield cluster["headGroupSpec"]["template"]
    yield from (group["template"] for group in cluster.get("workerGroupSpecs", []))
    yield ray_job["spec"]["submitterPodTemplate"]


def _place_pod(pod: Manifest, group: HeadPods | WorkerPods) -> None:
    spec = pod["spec"]
    if group.node_selector:
        spec["nodeSelector"] = dict(group.node_selector)
    if group.tolerations:
        spec["tolerations"] = [
            {name: value for name, value in one.model_dump(by_alias=True).items() if value}
            for one in group.tolerations
        ]
    if isinstance(group, WorkerPods) and group.topology_spread:
        labels = {name: pod["metadata"]["labels"][name] for name in (JOB_UID_LABEL, ROLE_LABEL)}
        spec["topologySpreadConstraints"] = [
            _build_spread(one, labels) for one in group.topology_spread
        ]


def _build_spread(spread: TopologySpread, labels: dict[str, str]) -> Manifest:
    return {**spread.model_dump(by_alias=True), "labelSelector": {"matchLabels": labels}}


def _set_shared_memory(pod: Manifest, size: str) -> None:
    for volume in pod["spec"]["volumes"]:
        if volume["name"] == "shm":
            volume["emptyDir"]["sizeLimit"] = size


def _cap_memory(resources: Manifest, most: str) -> None:
    """A pod that was killed for memory gets more each time, but never more than allowed."""
    for amounts in resources.values():
        if count_mib(amounts["memory"]) > count_mib(most):
            amounts["memory"] = most
