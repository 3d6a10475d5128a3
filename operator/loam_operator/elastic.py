"""An elastic job starts with the workers that have come, and asks for the others once it runs.

KubeRay submits a job when all the pods that it was asked for run: those that have come would hold
their GPUs, idle, until the last one does. So late ones are given up after a while; Ray Train takes
them in when they come after all.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from loam_api.finetunejob import FineTuneJobSpec
from loam_api.status import Attempt
from loam_operator.decision import ResizeWorkers
from loam_operator.names import QUEUE_NAME_LABELS
from loam_operator.observed import JobView, Observed, PodView, RayJobView
from loam_operator.steps import count_workers

START_WITHOUT_AFTER = timedelta(seconds=30)


def is_elastic(job: JobView, spec: FineTuneJobSpec, step: str) -> bool:
    """Whether a step may begin with fewer workers than it asks for.

    What a queue has admitted it has admitted as a whole.
    """
    is_queued = any(label in job.queue_labels for label in QUEUE_NAME_LABELS)
    return not is_queued and spec.compute.workers.min < count_workers(step, spec)


def find_resize(
    observed: Observed, spec: FineTuneJobSpec, live: Attempt, now: datetime
) -> ResizeWorkers | None:
    """How many workers the live attempt's cluster should have, where it should not be as it is."""
    ray_job = observed.find_ray_job(live.step, live.number)
    if ray_job is None or not ray_job.cluster or not is_elastic(observed.job, spec, live.step):
        return None
    pods = [pod for pod in observed.list_own_pods(live.number) if pod.is_staying]
    most = count_workers(live.step, spec)
    if ray_job.job_status == "RUNNING":
        num_workers = sum(pod.role == "worker" for pod in pods)
        is_small = 0 < ray_job.desired_workers < most and num_workers < most
        return ResizeWorkers(ray_job.cluster, most) if is_small else None
    if ray_job.deployment_status == "Initializing":
        return _start_without(ray_job, pods, spec.compute.workers.min, now)
    return None


def _start_without(
    ray_job: RayJobView, pods: list[PodView], fewest: int, now: datetime
) -> ResizeWorkers | None:
    """Give up the workers for which there is no room, where enough others run and wait for them.

    A pod that has its node and is on its way is waited for.
    """
    late = [pod for pod in pods if pod.role == "worker" and pod.unschedulable]
    here = [pod for pod in pods if pod.role == "worker" and pod.phase == "Running"]
    has_head = any(pod.role == "head" and pod.phase == "Running" for pod in pods)
    if not has_head or len(here) < fewest or len(late) + len(here) + 1 < len(pods):
        return None
    since = [pod.waiting_since for pod in late]
    if ray_job.refusal and len(late) + len(here) < ray_job.desired_workers:
        since.append(ray_job.refused_since)
    if not since or any(one is None or now - one < START_WITHOUT_AFTER for one in since):
        return None
    return ResizeWorkers(ray_job.cluster, len(here), tuple(pod.name for pod in late))
