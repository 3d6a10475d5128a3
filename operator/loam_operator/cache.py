"""What the watches have told, by job: trimmed views, the newest of each object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from loam_operator.observed import (
    JobView,
    Observed,
    PodView,
    RayJobView,
)


class Key(NamedTuple):
    """A job's place in the cluster; what waits in the queue."""

    namespace: str
    name: str


@dataclass(slots=True)
class _Entry:
    job: JobView | None = None
    ray_jobs: dict[str, RayJobView] = field(default_factory=dict)
    pods: dict[str, PodView] = field(default_factory=dict)
    progress: dict[int, str] = field(default_factory=dict)
    profile_copy: str = ""
    conflicts: tuple[str, ...] = ()
    checked_at: float = 0.0


class Cache:
    """Not thread-safe: it lives in one event loop, and no method waits."""

    def __init__(self) -> None:
        self._entries: dict[Key, _Entry] = {}

    def __len__(self) -> int:
        return sum(entry.job is not None for entry in self._entries.values())

    def list_jobs(self) -> list[JobView]:
        return [entry.job for entry in self._entries.values() if entry.job is not None]

    def list_with_pods(self) -> list[Observed]:
        """All that is known of the jobs that have pods."""
        found = (self.observe(key) for key, entry in self._entries.items() if entry.pods)
        return [observed for observed in found if observed is not None]

    def find_job(self, key: Key) -> JobView | None:
        entry = self._entries.get(key)
        return entry.job if entry is not None else None

    def put_job(self, job: JobView) -> Key:
        key = Key(job.namespace, job.name)
        entry = self._entries.setdefault(key, _Entry())
        held = entry.job
        if held is None or held.uid != job.uid or _is_newer(job, held):
            entry.job = job
        return key

    def put_ray_job(self, key: Key, ray_job: RayJobView) -> None:
        held = self._entries.setdefault(key, _Entry()).ray_jobs
        before = held.get(ray_job.name)
        if before is None or before.uid != ray_job.uid or _is_newer(ray_job, before):
            held[ray_job.name] = ray_job

    def put_pod(self, key: Key, pod: PodView) -> None:
        held = self._entries.setdefault(key, _Entry()).pods
        before = held.get(pod.name)
        if before is None or before.uid != pod.uid or _is_newer(pod, before):
            held[pod.name] = pod

    def put_progress(self, key: Key, documents: dict[int, str]) -> bool:
        """Take over what the head pods say; returns whether that is news."""
        entry = self._entries.setdefault(key, _Entry())
        before, entry.progress = entry.progress, documents
        return before != documents

    def put_profile_copy(self, key: Key, text: str) -> None:
        self._entries.setdefault(key, _Entry()).profile_copy = text

    def list_unruled(self) -> list[Key]:
        """The jobs that may wait for a FineTuneProfile, or are about to be told that they do."""
        return [Key(job.namespace, job.name) for job in self.list_jobs() if _is_unruled(job)]

    def remove_job(self, key: Key, uid: str) -> None:
        """Forget a job, unless another has its name by now."""
        entry = self._entries.get(key)
        if entry is not None and entry.job is not None and entry.job.uid == uid:
            entry.job = None
            self._drop_if_empty(key)

    def remove_ray_job(self, key: Key, name: str, uid: str) -> None:
        entry = self._entries.get(key)
        if entry is not None and name in entry.ray_jobs and entry.ray_jobs[name].uid == uid:
            del entry.ray_jobs[name]
            self._drop_if_empty(key)

    def remove_pod(self, key: Key, name: str, uid: str) -> None:
        entry = self._entries.get(key)
        if entry is not None and name in entry.pods and entry.pods[name].uid == uid:
            del entry.pods[name]
            self._drop_if_empty(key)

    def remove_progress(self, key: Key) -> None:
        entry = self._entries.get(key)
        if entry is not None:
            entry.progress = {}
            self._drop_if_empty(key)

    def set_conflicts(self, key: Key, conflicts: tuple[str, ...]) -> None:
        self._entries.setdefault(key, _Entry()).conflicts = conflicts

    def replace(self, observed: Observed, checked_at: float) -> None:
        """Take over what was read from the API server just now, whole."""
        key = Key(observed.job.namespace, observed.job.name)
        before = self._entries.get(key, _Entry())
        self._entries[key] = _Entry(
            job=observed.job,
            ray_jobs={one.name: one for one in observed.ray_jobs},
            pods={pod.name: pod for pod in observed.pods},
            progress=dict(observed.progress),
            profile_copy=observed.profile_copy,
            conflicts=before.conflicts,
            checked_at=checked_at,
        )

    def forget(self, key: Key) -> None:
        """The job is gone, by the API server's own word."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.job = None
            self._drop_if_empty(key)

    def seconds_unchecked(self, key: Key, now: float) -> float:
        """Since when the entry stands on watches alone."""
        entry = self._entries[key]
        if not entry.checked_at:
            entry.checked_at = now
        return now - entry.checked_at

    def observe(self, key: Key) -> Observed | None:
        """All that is known of a job; None if there is no such job."""
        entry = self._entries.get(key)
        if entry is None or entry.job is None:
            return None
        return Observed(
            job=entry.job,
            ray_jobs=tuple(entry.ray_jobs.values()),
            pods=tuple(entry.pods.values()),
            progress=dict(entry.progress),
            conflicts=entry.conflicts,
            profile_copy=entry.profile_copy,
        )

    def _drop_if_empty(self, key: Key) -> None:
        entry = self._entries[key]
        if entry.job is None and not (
            entry.ray_jobs or entry.pods or entry.progress or entry.profile_copy
        ):
            del self._entries[key]


def _is_unruled(job: JobView) -> bool:
    # A job without a profile in its status may just be looked at, by rules as they were.
    return job.status.get("phase") == "Pending" or not job.status.keys() & {
        "profile",
        "completionTime",
    }


Versioned = JobView | RayJobView | PodView


def _is_newer(one: Versioned, other: Versioned) -> bool:
    """Whether to prefer it; resource versions of one object only ever grow."""
    new, old = one.resource_version, other.resource_version
    return not (new.isdecimal() and old.isdecimal()) or int(new) >= int(old)
