"""What is deleted once it is no longer needed; the job itself never is."""

from __future__ import annotations

from datetime import datetime, timedelta

from loam_api.finetunejob import FineTuneJobSpec
from loam_api.status import Attempt, FineTuneJobStatus
from loam_operator.decision import (
    Action,
    Decision,
    DeleteAccess,
    DeleteRayCluster,
    DeleteRayJob,
)
from loam_operator.history import find_live
from loam_operator.observed import Observed
from loam_operator.status import parse_time
from loam_operator.steps import count_workers

_DEFAULT_TTL_SECONDS = 3600


def list_leftovers(observed: Observed, status: FineTuneJobStatus) -> tuple[Action, ...]:
    """RayJobs that run although their attempt is over."""
    live = find_live(status)
    number = live.number if live else 0
    return tuple(
        DeleteRayJob(one.name, one.uid)
        for one in observed.list_own_ray_jobs()
        if one.attempt != number and not one.is_over and not one.is_deleting
    )


def free_workers(
    observed: Observed, spec: FineTuneJobSpec, done: Attempt
) -> tuple[DeleteRayCluster, ...]:
    """The workers of an attempt that has just succeeded, which may have GPUs.

    KubeRay leaves pods for a while, for their logs to be read: of a success nobody reads them.
    """
    ray_job = observed.find_ray_job(done.step, done.number)
    if ray_job is None or not ray_job.cluster or not count_workers(done.step, spec):
        return ()
    return (DeleteRayCluster(ray_job.cluster),)


def clean_up(observed: Observed, status: FineTuneJobStatus, now: datetime) -> Decision:
    """Of an ended job: stop what still runs; after its time, delete what the job created.

    To be decided on fresh reads: another operator may have begun the job anew meanwhile, and no
    status is written that a conflict would stop.
    """
    leftovers = list_leftovers(observed, status)
    if leftovers:
        return Decision(status, leftovers, 5.0, is_weighty=True)
    kept = [one for one in observed.list_own_ray_jobs() if not one.is_deleting]
    ended = parse_time(status.completion_time)
    if not (kept or observed.maps) or ended is None:
        return Decision(status)
    seconds = observed.job.spec.get("clusterTTLSeconds", _DEFAULT_TTL_SECONDS)
    ttl = timedelta(seconds=seconds if isinstance(seconds, int) else _DEFAULT_TTL_SECONDS)
    left = (ended + ttl - now).total_seconds()
    if left > 0:
        return Decision(status, requeue_seconds=left)
    # ConfigMaps and RayJobs go last: while one is there, an interrupted clean-up is taken up again.
    deletions = tuple(DeleteRayJob(one.name, one.uid) for one in kept)
    return Decision(status, (DeleteAccess(), *deletions), is_weighty=True)


def has_running(observed: Observed, status: FineTuneJobStatus, now: datetime) -> bool:
    """Whether pods of an earlier attempt may still work.

    Those of one that succeeded do nothing any more, and the next step need not wait for their end.
    Those of an earlier job of this name may; a pod without the label of any job's UID is nobody's.
    A pod that has outstayed its grace period by two minutes is on a node that no longer answers:
    the fence, not its absence, makes it safe to go on.
    """
    patience = timedelta(seconds=120)
    done = {one.number for one in status.attempts if one.reason == "Succeeded"}
    for pod in observed.pods:
        is_done = pod.job_uid == observed.job.uid and pod.attempt in done
        if is_done or not pod.job_uid:
            continue
        if not pod.is_over and (pod.deletion_due is None or now < pod.deletion_due + patience):
            return True
    return any(not one.is_over and not one.is_deleting for one in observed.list_own_ray_jobs())
