"""Names, labels and annotations of what belongs to a job; one place for both ways."""

from __future__ import annotations

JOB_LABEL = "loam.dev/job"
STEP_LABEL = "loam.dev/step"
ATTEMPT_LABEL = "loam.dev/attempt"
JOB_UID_LABEL = "loam.dev/job-uid"
ROLE_LABEL = "loam.dev/role"
MANAGED_LABEL = "app.kubernetes.io/managed-by"
MANAGED_VALUE = "loam"
RETRY_ANNOTATION = "loam.dev/retry"
GPU_RESOURCE_ANNOTATION = "loam.dev/gpu-resource"  # of a pod: what its GPUs are asked for as

# Handed on from the job, because queues read them on the RayJob when it is created.
QUEUE_LABELS = (
    "kueue.x-k8s.io/queue-name",
    "kueue.x-k8s.io/priority-class",
    "volcano.sh/queue-name",
    "ray.io/priority-class-name",
)

# Those of them that say where a job waits, and how important it is.
QUEUE_NAME_LABELS = ("kueue.x-k8s.io/queue-name", "volcano.sh/queue-name")
PRIORITY_LABELS = ("kueue.x-k8s.io/priority-class", "ray.io/priority-class-name")

MAX_ATTEMPT_NUMBER = 99


def name_attempt(job: str, step: str, attempt: int) -> str:
    """Of an attempt's RayJob; with a job's 34 characters it stays within KubeRay's 47."""
    return f"{job}-{step}-a{attempt}"


def name_access(job: str) -> str:
    """Of the ServiceAccount, Role and RoleBinding of a job's head pods."""
    return f"{job}-runtime"


def name_progress(job: str) -> str:
    """Of the ConfigMap in which the head pods of all attempts say how far they are."""
    return f"{job}-progress"


def name_manifest(job: str) -> str:
    """Of the ConfigMap with the manifest that the runtime reads."""
    return f"{job}-manifest"
