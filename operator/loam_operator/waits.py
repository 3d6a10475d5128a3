"""What an attempt waits for before it runs, from the objects that know."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from loam_api.status import MAX_ADMISSIONS
from loam_operator.names import QUEUE_NAME_LABELS
from loam_operator.observed import Hint, JobView, PodView, RayJobView

# Every pod is unschedulable for an instant, and a quota is full while old pods still go.
WAIT_IS_TROUBLE_AFTER = timedelta(seconds=10)

REFUSED = "Refused"  # reason of a hint: the API server refused the operator itself

_IMAGE_TROUBLE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_REFUSALS = (
    REFUSED,
    "FailedToCreateRayCluster",
    "FailedToCreateHeadPod",
    "FailedToCreateWorkerPod",
    "FailedToCreateRayJobSubmitter",
    "FailedCreate",  # of the submitter's pod, by Kubernetes' Job controller
)
_VOLUME_TROUBLE = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
_POD_TROUBLE = ("FailedCreatePodSandBox", "NetworkNotReady")

Wait = tuple[str, str]


def find_wait(
    ray_job: RayJobView, pods: Iterable[PodView], hints: Iterable[Hint], now: datetime
) -> Wait | None:
    """The state of an attempt that cannot start, with the words for it; None for no trouble."""
    pods = list(pods)
    for pod in pods:
        if pod.waiting:
            return _name_pod_trouble(pod), _describe_waiting(pod)
    if ray_job.refusal and _is_old(ray_job.refused_since, now):
        return name_refusal(ray_job.refusal), ray_job.refusal
    for pod in pods:
        if pod.unschedulable and _is_old(pod.waiting_since, now):
            return "Unschedulable", f"pod {pod.name}: {pod.unschedulable}"
    for hint in hints:
        state = _name_hint(hint)
        if state:
            return state, f"{hint.about}: {hint.message or hint.reason}"
    return None


def name_refusal(words: str) -> str:
    """The state for what the API server says when it refuses an object."""
    return "QuotaExceeded" if "exceeded quota" in words or "failed quota" in words else "Refused"


def describe_queue(hints: Iterable[Hint]) -> str:
    """A queue's own words for why it holds an attempt back; "" where it has not said."""
    return next((hint.message for hint in hints if hint.about.startswith("Workload ")), "")


def describe_preemptions(job: JobView) -> str:
    """Which queue will not let the job run to its end."""
    names = [job.queue_labels[label] for label in QUEUE_NAME_LABELS if label in job.queue_labels]
    queue = f"The queue {names[0]}" if names else "Its queue"
    return f"{queue} has taken the attempt's pods away {MAX_ADMISSIONS} times."


def _name_pod_trouble(pod: PodView) -> str:
    if pod.waiting in _IMAGE_TROUBLE:
        return "ImageUnavailable"
    # The kubelet has the same reason for a missing ConfigMap and an image that would run as root.
    if pod.waiting == "CreateContainerConfigError" and "secret" in (
        pod.waiting_words.lower() or "secret"
    ):
        return "SecretMissing"
    return "PodStuck"


def _describe_waiting(pod: PodView) -> str:
    words = f": {pod.waiting_words}" if pod.waiting_words else "."
    return f"pod {pod.name} waits with {pod.waiting}{words}"


def _name_hint(hint: Hint) -> str:
    if hint.reason in _REFUSALS:
        return name_refusal(hint.message)
    if hint.reason in _VOLUME_TROUBLE:
        return "VolumeMissing"
    return "PodStuck" if hint.reason in _POD_TROUBLE else ""


def _is_old(since: datetime | None, now: datetime) -> bool:
    return since is not None and now - since >= WAIT_IS_TROUBLE_AFTER
