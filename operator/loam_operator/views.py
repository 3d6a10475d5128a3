"""From the API server's objects to the trimmed views of `observed`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from loam_api import review
from loam_api.finetuneprofile import FineTuneProfileSpec
from loam_api.problems import join_path
from loam_api.profile_pods import DEFAULT_GPU_RESOURCE
from loam_api.progress_document import MAX_DOCUMENT_BYTES, name_progress_key
from loam_operator.cache import Key
from loam_operator.children import PROFILE_KEY
from loam_operator.known_fields import keep_known
from loam_operator.names import (
    ATTEMPT_LABEL,
    GPU_RESOURCE_ANNOTATION,
    JOB_LABEL,
    JOB_UID_LABEL,
    MAX_ATTEMPT_NUMBER,
    QUEUE_LABELS,
    RETRY_ANNOTATION,
    ROLE_LABEL,
    STEP_LABEL,
    name_manifest,
    name_progress,
)
from loam_operator.observed import JobView, PodView, ProfileView, RayJobView, Role
from loam_operator.status import parse_time

Raw = Mapping[str, Any]


def view_job(raw: Raw, held: JobView | None = None) -> JobView:
    """A FineTuneJob.

    Args:
        held: an earlier view of it, whose spec is taken over where it cannot have changed.
    """
    metadata = raw["metadata"]
    labels = metadata.get("labels") or {}
    status = _copy(raw.get("status") or {})
    annotations = metadata.get("annotations") or {}
    return JobView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        resource_version=metadata["resourceVersion"],
        is_deleting="deletionTimestamp" in metadata,
        retry_token=annotations.get(RETRY_ANNOTATION, ""),
        review={name: annotations[name] for name in review.ANNOTATIONS if name in annotations},
        queue_labels={name: labels[name] for name in QUEUE_LABELS if name in labels},
        created_at=parse_time(metadata.get("creationTimestamp")),
        spec=_view_spec(raw, bool(status.get("attempts")), held),
        status=status,
    )


def _view_spec(raw: Raw, has_started: bool, held: JobView | None) -> Mapping[str, Any]:
    """What was started once goes on; what has not been is refused by the name of the field."""
    identity = raw["metadata"]["uid"], raw["metadata"].get("generation", 0), has_started
    if held and identity == (held.uid, held.generation, bool(held.status.get("attempts"))):
        return held.spec
    spec: dict[str, Any] = _copy(raw.get("spec") or {})
    return keep_known(spec) if has_started else spec


def find_key(raw: Raw) -> Key | None:
    """The job that a child's label names; None where there is no label."""
    metadata = raw["metadata"]
    name = (metadata.get("labels") or {}).get(JOB_LABEL)
    return Key(metadata["namespace"], name) if name else None


def find_attempt(raw: Raw) -> int:
    """The attempt that a child's label names; 0 for none."""
    text = (raw["metadata"].get("labels") or {}).get(ATTEMPT_LABEL, "")
    return int(text) if text.isdecimal() and len(text) < 6 else 0


def find_job_uid(raw: Raw) -> str:
    """UID of the job that a child's label names; "" for none."""
    return str((raw["metadata"].get("labels") or {}).get(JOB_UID_LABEL, ""))


def view_ray_job(raw: Raw) -> RayJobView:
    """A RayJob."""
    metadata = raw["metadata"]
    status = raw.get("status") or {}
    refused = _find_refusal(status)
    return RayJobView(
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=find_owner(raw),
        step=(metadata.get("labels") or {}).get(STEP_LABEL, ""),
        attempt=find_attempt(raw),
        resource_version=metadata["resourceVersion"],
        is_deleting="deletionTimestamp" in metadata,
        job_id=status.get("jobId", ""),
        job_status=status.get("jobStatus", ""),
        deployment_status=status.get("jobDeploymentStatus", ""),
        reason=status.get("reason", ""),
        message=str(status.get("message", ""))[:2048],
        refusal=str(refused.get("message", ""))[:1024],
        refused_since=parse_time(refused.get("lastTransitionTime")),
        cluster=status.get("rayClusterName", ""),
        desired_workers=(status.get("rayClusterStatus") or {}).get("desiredWorkerReplicas", 0),
    )


def _find_refusal(status: Raw) -> Raw:
    """The RayCluster's condition, which KubeRay copies to the RayJob until the job is submitted."""
    for condition in (status.get("rayClusterStatus") or {}).get("conditions") or []:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return dict(condition)
    return {}


def find_owner(raw: Raw) -> str:
    """UID of the controller in an object's ownerReferences; "" without one."""
    for reference in raw["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return str(reference["uid"])
    return ""


def is_of_earlier(raw: Raw, job: JobView) -> bool:
    """Whether an object's controller is an earlier job of this name, which is gone."""
    for reference in raw["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            owner = (str(reference.get("apiVersion")).partition("/")[0], reference.get("kind"))
            named = reference.get("name") == job.name and reference["uid"] != job.uid
            return named and owner == ("loam.dev", "FineTuneJob")
    return False


def view_pod(raw: Raw) -> PodView:
    """A pod of an attempt."""
    metadata = raw["metadata"]
    spec = raw.get("spec") or {}
    status = raw.get("status") or {}
    label = (metadata.get("labels") or {}).get(ROLE_LABEL, "")
    role: Role = "head" if label == "head" else "worker" if label == "worker" else "submitter"
    containers = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    waiting, words = _find_waiting(containers)
    kill = _find_oom_kill(containers)
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        role=role,
        attempt=find_attempt(raw),
        phase=status.get("phase", "Pending"),
        resource_version=metadata["resourceVersion"],
        deletion_due=parse_time(metadata.get("deletionTimestamp")),
        waiting=waiting,
        waiting_words=words,
        unschedulable=_find_unschedulable(status),
        waiting_since=parse_time(metadata.get("creationTimestamp")),
        is_oom_killed=kill is not None,
        exit_code=int(kill.get("exitCode", -1)) if kill else -1,
        gpus=_count_gpus(spec, _find_gpu_resource(metadata)),
        node_since=_find_placing(raw) if spec.get("nodeName") else None,
        job_uid=find_job_uid(raw),
    )


def _find_placing(raw: Raw) -> datetime | None:
    """When a pod that has a node got it; one that was bound by hand has no word of a scheduler."""
    conditions = (raw.get("status") or {}).get("conditions") or []
    times = [
        one.get("lastTransitionTime")
        for one in conditions
        if one.get("type") == "PodScheduled" and one.get("status") == "True"
    ]
    return parse_time(next(iter(times), raw["metadata"].get("creationTimestamp")))


def _find_gpu_resource(metadata: Raw) -> str:
    annotations = metadata.get("annotations") or {}
    return str(annotations.get(GPU_RESOURCE_ANNOTATION, DEFAULT_GPU_RESOURCE))


def _count_gpus(spec: Raw, resource: str) -> int:
    """GPUs that a pod's containers are limited to, of the resource that its annotation names."""
    limits = (
        (container.get("resources") or {}).get("limits") or {}
        for container in spec.get("containers") or []
    )
    counts = (str(limit.get(resource, 0)) for limit in limits)
    return sum(int(count) for count in counts if count.isdecimal())


def _find_waiting(containers: list[Raw]) -> tuple[str, str]:
    for container in containers:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "", "ContainerCreating", "PodInitializing"):
            return str(waiting["reason"]), str(waiting.get("message", ""))[:512]
    return "", ""


def _find_unschedulable(status: Raw) -> str:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "unschedulable")[:512]
    return ""


def _find_oom_kill(containers: list[Raw]) -> Raw | None:
    for container in containers:
        for state in ("state", "lastState"):
            end: Raw = (container.get(state) or {}).get("terminated") or {}
            if end.get("reason") == "OOMKilled":
                return end
    return None


def view_progress(raw: Raw) -> dict[int, str]:
    """The documents in a progress ConfigMap by attempt; what is too long is cut, and so none."""
    data = raw.get("data") or {}
    named = ((number, name_progress_key(number)) for number in range(1, MAX_ATTEMPT_NUMBER + 1))
    return {
        number: str(data[key])[: MAX_DOCUMENT_BYTES + 1] for number, key in named if key in data
    }


def is_progress(raw: Raw) -> bool:
    """Whether a labelled ConfigMap is the one that the head pods write to."""
    metadata = raw["metadata"]
    return bool(
        metadata["name"] == name_progress((metadata.get("labels") or {}).get(JOB_LABEL, ""))
    )


def is_manifest(raw: Raw) -> bool:
    """Whether a labelled ConfigMap is the job's manifest."""
    key = find_key(raw)
    return key is not None and raw["metadata"]["name"] == name_manifest(key.name)


def view_profile_copy(raw: Raw) -> str:
    """The profile that a job keeps beside its manifest; "" without one.

    One and the same text for all jobs that started under it.
    """
    return sys.intern(str((raw.get("data") or {}).get(PROFILE_KEY, "")))


def view_profile(raw: Raw) -> ProfileView:
    """A FineTuneProfile."""
    metadata = raw["metadata"]
    name = metadata["name"]
    try:
        spec = FineTuneProfileSpec.model_validate(_copy(raw.get("spec") or {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        trouble = f"spec.{join_path(first['loc'])}: {first['msg']}."
        return ProfileView(name, trouble=trouble)
    return ProfileView(name, spec)


def _copy(value: Any) -> Any:
    """Plain dictionaries and lists, whatever views a library hands out."""
    if isinstance(value, Mapping):
        return {key: _copy(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(child) for child in value]
    return value
