"""Who retries what: the one table of failures, for the code, its tests and docs/failures.md.

The order is the precedence: where two rows have evidence, the upper one counts. What concerns
machines is judged by Kubernetes objects alone, but for workers that Ray sees lost over and over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loam_api.exits import ExitCode
from loam_api.status import MAX_ADMISSIONS

Retry = Literal["charged", "free", "never"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One class of failure that ends an attempt.

    Attributes:
        name: reason in conditions and attempts.
        evidence: what it is told from.
        retry: charged to `backoffLimit`, free of charge, or never.
        most_retries: of this class, however high `backoffLimit` is.
        remedy: what the reader should do once no retry is left.
        exit_code: of the runtime, where that is the evidence.
        change: what a new attempt does differently.
    """

    name: str
    evidence: str
    retry: Retry
    remedy: str
    most_retries: int = 0
    exit_code: ExitCode | None = None
    change: str = ""


FAILURES = (
    Failure(
        "InvalidSpec",
        "the operator's own validation",
        "never",
        "Correct the manifest and create the job under a new name.",
    ),
    Failure(
        "DeadlineExceeded",
        "the clock and spec.activeDeadlineSeconds",
        "never",
        "Raise activeDeadlineSeconds, then set the annotation loam.dev/retry: finished stages and "
        "checkpoints are kept.",
    ),
    Failure(
        "ReviewRejected",
        "the annotation loam.dev/review: rejected without rows",
        "never",
        "Change synthesis or the seeds in a job of a new name; or, to take the decision back, set "
        "loam.dev/review to approved and then loam.dev/retry.",
    ),
    Failure(
        "NotAllowed",
        "the job's spec and queue labels against its FineTuneProfile",
        "never",
        "Ask for less in a job of a new name; or have the platform team change the profile, then "
        "set the annotation loam.dev/retry.",
    ),
    Failure(
        "PreemptedTooOften",
        f"the RayJob's jobId: submitted more than {MAX_ADMISSIONS} times in one attempt",
        "never",
        "Give the job a higher priority, or a queue whose quota is not lent by others; then set "
        "the annotation loam.dev/retry: it goes on from the last checkpoint.",
    ),
    Failure(
        "HeadLost",
        "the head pod or the RayJob is gone or another one; not a head that was OOMKilled",
        "free",
        "Look for node failures, evictions or deletions in the namespace's events; then set the "
        "annotation loam.dev/retry.",
        most_retries=8,
        change="resumes from the last checkpoint",
    ),
    Failure(
        "HostOutOfMemory",
        "a container was OOMKilled",
        "charged",
        "Raise the memory in spec.compute.head or spec.compute.worker, in a job of a new name, "
        "or the limit where the message names one: finished stages are kept with the run.",
        most_retries=3,
        change="half as much memory again, within limits.memoryPerPod; not tried again where that "
        "is reached",
    ),
    Failure(
        "RayJobInvalid",
        "KubeRay's ValidationFailed",
        "never",
        "See that KubeRay is 1.6 or later and that the job's name is free of its objects; then set "
        "the annotation loam.dev/retry.",
    ),
    Failure(
        "NoResult",
        "the RayJob succeeded and left no valid result",
        "charged",
        "See the head pod's log; then set the annotation loam.dev/retry.",
        most_retries=1,
    ),
    Failure(
        "BadManifest",
        "exit 2",
        "never",
        "Correct the manifest and create the job under a new name.",
        exit_code=ExitCode.BAD_MANIFEST,
    ),
    Failure(
        "BadInput",
        "exit 10",
        "never",
        "Correct what the message names in model, data or output, then set the annotation "
        "loam.dev/retry.",
        exit_code=ExitCode.BAD_INPUT,
    ),
    Failure(
        "BadCredentials",
        "exit 11",
        "never",
        "Correct the Secret that the message names, then set the annotation loam.dev/retry.",
        exit_code=ExitCode.BAD_CREDENTIALS,
    ),
    Failure(
        "TeacherFailed",
        "exit 12",
        "never",
        "See that the teacher or judge answers, then set the annotation loam.dev/retry: answers "
        "that were paid for are kept.",
        exit_code=ExitCode.TEACHER_FAILED,
    ),
    Failure(
        "BudgetSpent",
        "exit 13",
        "never",
        "Raise synthesis.budget or evaluation.judge.budget, whichever is spent, then set the "
        "annotation loam.dev/retry: answers that were paid for are kept.",
        exit_code=ExitCode.BUDGET_SPENT,
    ),
    Failure(
        "OutOfMemory",
        "exit 14",
        "charged",
        "Take a method that needs less (qlora), a shorter maxSequenceLength, or larger devices.",
        most_retries=3,
        exit_code=ExitCode.OUT_OF_MEMORY,
        change="half the micro-batch",
    ),
    Failure(
        "Diverged",
        "exit 15",
        "never",
        "Lower training.learningRate, in a job of a new name.",
        exit_code=ExitCode.DIVERGED,
    ),
    Failure(
        "RunTaken",
        "exit 17",
        "never",
        "Then set the annotation loam.dev/retry: what the other job has made is found, and nothing "
        "is made twice.",
        exit_code=ExitCode.RUN_TAKEN,
    ),
    Failure(
        "WorkersLost",
        "exit 18",
        "free",
        "Look for evictions, spot interruptions, node failures or a crash in the workers' logs; "
        "lower training.checkpoint.everySeconds where workers live too short to save one, in a job "
        "of a new name; else set the annotation loam.dev/retry.",
        most_retries=8,
        exit_code=ExitCode.WORKERS_LOST,
        change="resumes from the last checkpoint",
    ),
    Failure(
        "Unknown",
        "none of the above; the message has the last words",
        "charged",
        "See the message and the head pod's log; then set the annotation loam.dev/retry.",
        most_retries=1,
    ),
)

FAILURES_BY_NAME = {failure.name: failure for failure in FAILURES}
FAILURES_BY_EXIT = {
    failure.exit_code: failure for failure in FAILURES if failure.exit_code is not None
}


@dataclass(frozen=True, slots=True)
class Healing:
    """What goes wrong without ending an attempt.

    Attributes:
        name: reason in conditions; "" where nothing is shown.
        action: who does what.
    """

    what: str
    evidence: str
    action: str
    name: str = ""


HEALING = (
    Healing(
        "worker pod or its node lost",
        "pod and node objects",
        "Ray Train restarts the workers from the last checkpoint, inside the attempt, as often as "
        "needed while checkpoints advance; else, after 4 losses in a row, WorkersLost",
    ),
    Healing(
        "preempted by a queue",
        "the RayJob is suspended",
        "the queue admits it again; it resumes from the last checkpoint; free of charge, "
        f"{MAX_ADMISSIONS} admissions of an attempt at most",
        name="Queued",
    ),
    Healing(
        "image cannot be pulled",
        "a container waits with ErrImagePull, ImagePullBackOff or InvalidImageName",
        "said at once; waits until the deadline",
        name="ImageUnavailable",
    ),
    Healing(
        "Secret or key missing",
        "a container waits with CreateContainerConfigError that names a Secret",
        "said at once; goes on when the Secret is there; waits until the deadline",
        name="SecretMissing",
    ),
    Healing(
        "volume cannot be mounted",
        "events FailedMount, FailedAttachVolume of a pod",
        "said after 10 s; goes on when the volume is there; waits until the deadline",
        name="VolumeMissing",
    ),
    Healing(
        "container or its sandbox cannot be made",
        "a container waits with any other reason; event FailedCreatePodSandBox",
        "said with the kubelet's words; waits until the deadline",
        name="PodStuck",
    ),
    Healing(
        "quota of the namespace is used up",
        "the RayCluster's condition ReplicaFailure, events FailedCreate, or a refusal to the "
        "operator that names a quota",
        "said after 10 s with the quota's name; goes on when there is room; waits until the "
        "deadline; an elastic job begins with fewer workers, as where no node has room",
        name="QuotaExceeded",
    ),
    Healing(
        "pod security, a webhook or a right refuses an object",
        "as for a quota, with other words",
        "said after 10 s with the API server's words; tried again; waits until the deadline",
        name="Refused",
    ),
    Healing(
        "a queue has no room yet",
        "the RayJob is suspended; Kueue's Workload has the condition QuotaReserved False",
        "said with Kueue's words; waits until the deadline",
        name="Queued",
    ),
    Healing(
        "no node has room",
        "a pod's condition PodScheduled is False for 10 s",
        "said with the scheduler's words; waits until the deadline; an elastic job begins without "
        "such workers after 30 s where compute.workers.min others run, outside of a queue",
        name="Unschedulable",
    ),
    Healing(
        "no FineTuneProfile for the job, or no clear one",
        "the cluster's profiles and the namespace's labels",
        "Stalled; goes on when the profile is there, or the namespace has the labels",
        name="ProfileUnavailable",
    ),
    Healing(
        "an object of another owner has the name of a child",
        "the API server's AlreadyExists and its ownerReferences",
        "Stalled; goes on when the object is gone",
        name="NameConflict",
    ),
)
