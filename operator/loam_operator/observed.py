"""What the operator knows of a job and of all that belongs to it: trimmed, immutable views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from loam_api.finetuneprofile import FineTuneProfileSpec
from loam_api.progress_document import ProgressDocument, parse_progress

Role = Literal["head", "worker", "submitter"]


@dataclass(frozen=True, slots=True)
class JobView:
    """A FineTuneJob.

    Attributes:
        retry_token: value of the annotation that asks for a retry; "" without it.
        review: the annotations of a human spot check, by name.
        queue_labels: labels that a queue reads, handed on to the RayJobs.
        created_at: by the API server's clock, in whole seconds.
        spec, status: as the API server holds them.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    is_deleting: bool = False
    retry_token: str = ""
    review: Mapping[str, str] = field(default_factory=dict)
    queue_labels: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hint:
    """What another object says of an attempt that does not get on: a warning, a queue's word.

    Attributes:
        about: kind and name, such as "Pod a-head".
        reason: one word, as that object has it.
    """

    about: str
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class PodLog:
    """The last lines that a pod wrote."""

    role: Role
    pod: str
    text: str


@dataclass(frozen=True, slots=True)
class RayJobView:
    """A RayJob that carries a job's label.

    Attributes:
        owner_uid: of the controller in its ownerReferences; "" without one.
        job_id: Ray's name for its submission; another one each time that a queue admits it.
        job_status: Ray's word: "", PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED.
        deployment_status: KubeRay's word, such as Initializing, Running, Suspended, Complete.
        reason, message: KubeRay's, of a failure.
        refusal: the API server's words for refusing a pod to KubeRay; "" while it gets them.
        refused_since: when that began.
        cluster: name of its RayCluster; "" before there is one.
        desired_workers: worker pods that the RayCluster is to have, as KubeRay last told; 0 before.
    """

    name: str
    uid: str
    owner_uid: str
    step: str
    attempt: int
    resource_version: str = ""
    is_deleting: bool = False
    job_id: str = ""
    job_status: str = ""
    deployment_status: str = ""
    reason: str = ""
    message: str = ""
    refusal: str = ""
    refused_since: datetime | None = None
    cluster: str = ""
    desired_workers: int = 0

    @property
    def is_over(self) -> bool:
        """Whether KubeRay has finished with it, one way or the other."""
        return self.deployment_status in ("Complete", "Failed", "ValidationFailed")

    @property
    def is_held(self) -> bool:
        """Whether a queue holds it back; the operator itself never suspends a RayJob."""
        return self.deployment_status in ("Suspending", "Suspended")


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod of one attempt.

    Attributes:
        deletion_due: when its grace period ends; None while nobody deletes it.
        waiting: reason of a container that cannot start, such as ImagePullBackOff; else "".
        waiting_words: the kubelet's words for it.
        unschedulable: the scheduler's words; "" once it has a node.
        waiting_since: when the pod was created.
        is_oom_killed: whether a container was killed for memory.
        exit_code: of that container; -1 without one.
        gpus: that it asks for, and holds once it has a node.
        node_since: when it got its node; None before.
        job_uid: of the job that it was made for; "" where no label says so.
    """

    name: str
    uid: str
    role: Role
    attempt: int
    phase: str = "Pending"
    resource_version: str = ""
    deletion_due: datetime | None = None
    waiting: str = ""
    waiting_words: str = ""
    unschedulable: str = ""
    waiting_since: datetime | None = None
    is_oom_killed: bool = False
    exit_code: int = -1
    gpus: int = 0
    node_since: datetime | None = None
    job_uid: str = ""

    @property
    def is_over(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    @property
    def is_staying(self) -> bool:
        """Whether it runs or is to run, and nobody deletes it."""
        return self.deletion_due is None and not self.is_over


@dataclass(frozen=True, slots=True)
class ProfileView:
    """A FineTuneProfile, or the copy of one that a job keeps.

    Attributes:
        spec: None for one that this operator cannot read.
        trouble: why it cannot.
    """

    name: str
    spec: FineTuneProfileSpec | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Tenancy:
    """The rules of the platform team, as far as a job's namespace is concerned.

    Attributes:
        profiles: all of the cluster, by name.
        namespace_labels: empty where no profile asks for them.
        is_required: no job runs without a profile, not even where there is none.
    """

    profiles: tuple[ProfileView, ...] = ()
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything `reconcile` looks at.

    Attributes:
        ray_jobs, pods: all that carry the job's label, of every attempt; also those of an earlier
            job of this name.
        progress: raw documents that the attempts' head pods wrote, by attempt.
        conflicts: objects in the way, such as "ConfigMap a-manifest", that are not the job's.
        logs: of the pods of an attempt that fails just now; None before they were asked for.
        hints: why the live attempt does not get on; looked for only where nothing else tells.
        killed: pods that were killed for memory, as they were last seen: KubeRay deletes them.
        maps: names of the ConfigMaps that the job's attempts share, as far as they are there.
        profile_copy: the text of the profile that the job keeps; "" without one. Who may write
            ConfigMaps may have written it: it counts only with the digest that the status has.
        tenancy: None before it was asked for.
    """

    job: JobView
    ray_jobs: tuple[RayJobView, ...] = ()
    pods: tuple[PodView, ...] = ()
    progress: Mapping[int, str] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()
    hints: tuple[Hint, ...] = ()
    logs: tuple[PodLog, ...] | None = None
    killed: tuple[PodView, ...] = ()
    maps: tuple[str, ...] = ()
    profile_copy: str = ""
    tenancy: Tenancy | None = None

    def find_ray_job(self, step: str, attempt: int) -> RayJobView | None:
        """The attempt's RayJob, if it is this job's own."""
        for ray_job in self.ray_jobs:
            if (ray_job.step, ray_job.attempt) == (step, attempt):
                return ray_job if ray_job.owner_uid == self.job.uid else None
        return None

    def find_progress(self, ray_job: RayJobView) -> ProgressDocument | None:
        """What the RayJob's present pods have told; not those that a queue took away before."""
        document = parse_progress(self.progress.get(ray_job.attempt, ""), ray_job.attempt)
        if document is None or document.job_id not in ("", ray_job.job_id):
            return None
        return document

    def list_own_pods(self, attempt: int) -> list[PodView]:
        """The pods of an attempt of this very job."""
        return [pod for pod in self.pods if (pod.attempt, pod.job_uid) == (attempt, self.job.uid)]

    def find_killed(self, attempt: int) -> PodView | None:
        """A pod of the attempt that was killed for memory, the head first."""
        found = [
            pod
            for pod in self.killed
            if (pod.attempt, pod.job_uid) == (attempt, self.job.uid) and pod.role != "submitter"
        ]
        return min(found, key=lambda pod: pod.role, default=None)

    def list_own_ray_jobs(self) -> tuple[RayJobView, ...]:
        """RayJobs whose controller is this very job, not one of the same name before it."""
        return tuple(one for one in self.ray_jobs if one.owner_uid == self.job.uid)
