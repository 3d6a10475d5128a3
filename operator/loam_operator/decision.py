"""What `reconcile` decides: a status to be written, and then what to do in the cluster."""

from __future__ import annotations

from dataclasses import dataclass, field

from loam_api.status import FineTuneJobStatus
from loam_operator.profiles import Profile

# A RayJob that nobody speaks of any more is looked at again after this time.
RECHECK_SECONDS = 300.0
PODS_RECHECK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Launch:
    """See that an attempt's objects are there: create what is missing, the RayJob last.

    Attributes:
        memory_factor: by which this attempt gets more memory than the job asks for.
        micro_batch_divisor: by which its micro-batch is smaller than planned.
        run_key: of the run, once the step `prepare` has told it.
        worker_memory: what a worker gets where the job does not say; "" before the plan.
        review: what a person decided about the rows, as JSON; "" where nobody was asked.
        profile: the rules that it is under.
    """

    step: str
    attempt: int
    memory_factor: float = 1.0
    micro_batch_divisor: int = 1
    run_key: str = ""
    worker_memory: str = ""
    review: str = ""
    profile: Profile = field(default_factory=Profile)


@dataclass(frozen=True, slots=True)
class DeleteRayCluster:
    """Let the pods of a RayJob go that is over, before KubeRay does.

    Attributes:
        name: of the RayCluster.
    """

    name: str


@dataclass(frozen=True, slots=True)
class DeleteRayJob:
    """Delete this very RayJob, and its pods before it."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class DeleteAccess:
    """Delete what the pods of an ended job were given: manifest, progress, access rights."""


@dataclass(frozen=True, slots=True)
class ResizeWorkers:
    """Have KubeRay run this many worker pods.

    Attributes:
        cluster: name of the attempt's RayCluster.
        unwanted: pods that it is to run no more.
    """

    cluster: str
    num_workers: int
    unwanted: tuple[str, ...] = ()


Action = Launch | ResizeWorkers | DeleteRayCluster | DeleteRayJob | DeleteAccess


@dataclass(frozen=True, slots=True)
class Decision:
    """The status first, conditionally on the job being as it was seen; then the actions, in order.

    Attributes:
        requeue_seconds: look again after this time at the latest; None for no need.
        wants_logs: it ends an attempt by a failure whose logs have not been asked for.
        wants_hints: nothing that is watched says why the attempt waits.
        wants_tenancy: it starts an attempt, and the rules have not been asked for.
        is_weighty: it ends an attempt, follows one or deletes: to be made from fresh reads only,
            because a watch may be behind.
    """

    status: FineTuneJobStatus
    actions: tuple[Action, ...] = ()
    requeue_seconds: float | None = None
    is_weighty: bool = False
    wants_hints: bool = False
    wants_logs: bool = False
    wants_tenancy: bool = False
