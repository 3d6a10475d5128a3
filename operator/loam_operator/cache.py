"""What the watches have told, by job: trimmed views, the newest of each object."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from loam_operator.observed import (
    JobView,
    Observed,
    PodView,
    RayJobView,
    Role,
)

_MOST_KILLED = 20  # pods of a job that are remembered


class Key(NamedTuple):
    """A job's place in the cluster; what waits in the queue."""

    namespace: str
    name: str


@dataclass(slots=True)
class _Entry:
    job: JobView | None = None
    ray_jobs: dict[str, RayJobView] = field(default_factory=dict)
    pods: dict[str, PodView] = field(default_factory=dict)
    killed: dict[tuple[str, int, Role], PodView] = field(default_factory=dict)
    progress: dict[int, str] = field(default_factory=dict)
    maps: dict[str, str] = field(default_factory=dict)
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
            _trim_killed(entry)
        return key

    def put_ray_job(self, key: Key, ray_job: RayJobView) -> None:
        entry = self._entries.setdefault(key, _Entry())
        before = entry.ray_jobs.get(ray_job.name)
        if before is None or before.uid != ray_job.uid or _is_newer(ray_job, before):
            entry.ray_jobs[ray_job.name] = ray_job
            _trim_killed(entry)

    def put_pod(self, key: Key, pod: PodView) -> None:
        entry = self._entries.setdefault(key, _Entry())
        before = entry.pods.get(pod.name)
        if before is None or before.uid != pod.uid or _is_newer(pod, before):
            entry.pods[pod.name] = pod
            _note_killed(entry, pod)

    def put_progress(self, key: Key, documents: dict[int, str]) -> bool:
        """Take over what the head pods say; returns whether that is news."""
        entry = self._entries.setdefault(key, _Entry())
        before, entry.progress = entry.progress, documents
        return before != documents

    def put_map(self, key: Key, name: str, job_uid: str) -> None:
        """A ConfigMap that a job's attempts share is there."""
        self._entries.setdefault(key, _Entry()).maps[name] = job_uid

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

    def remove_pod(self, key: Key, pod: PodView) -> None:
        """Forget a pod, but not how it ended.

        Args:
            pod: as it was at last.
        """
        entry = self._entries.get(key)
        if entry is None:
            return
        _note_killed(entry, pod)
        if pod.name in entry.pods and entry.pods[pod.name].uid == pod.uid:
            del entry.pods[pod.name]
            self._drop_if_empty(key)

    def remove_progress(self, key: Key) -> None:
        entry = self._entries.get(key)
        if entry is not None:
            entry.progress = {}
            self._drop_if_empty(key)

    def remove_map(self, key: Key, name: str) -> None:
        entry = self._entries.get(key)
        if entry is not None and name in entry.maps:
            del entry.maps[name]
            self._drop_if_empty(key)

    def list_uids(self) -> set[str]:
        """Of all jobs, RayJobs and pods that are held."""
        return {one.uid for entry in self._entries.values() for one in _list_held(entry)}

    def remove_all(self, uids: Set[str]) -> list[Key]:
        """Forget objects that are no more; returns the keys that had any."""
        found = [
            key
            for key, entry in self._entries.items()
            if any(one.uid in uids for one in _list_held(entry))
        ]
        for key in found:
            entry = self._entries[key]
            entry.job = None if entry.job and entry.job.uid in uids else entry.job
            entry.ray_jobs = {k: one for k, one in entry.ray_jobs.items() if one.uid not in uids}
            entry.pods = {k: one for k, one in entry.pods.items() if one.uid not in uids}
            self._drop_if_empty(key)
        return found

    def set_conflicts(self, key: Key, conflicts: tuple[str, ...]) -> None:
        self._entries.setdefault(key, _Entry()).conflicts = conflicts

    def replace(self, observed: Observed, checked_at: float) -> None:
        """Take over what was read from the API server just now, whole.

        What ended before is not to be read any more: that is kept.
        """
        key = Key(observed.job.namespace, observed.job.name)
        before = self._entries.get(key, _Entry())
        entry = self._entries[key] = _Entry(
            job=observed.job,
            ray_jobs={one.name: one for one in observed.ray_jobs},
            pods={pod.name: pod for pod in observed.pods},
            killed=before.killed,
            progress=dict(observed.progress),
            maps=dict.fromkeys(observed.maps, observed.job.uid),
            profile_copy=observed.profile_copy,
            conflicts=before.conflicts,
            checked_at=checked_at,
        )
        for pod in observed.pods:
            _note_killed(entry, pod)
        _trim_killed(entry)

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
            killed=tuple(entry.killed.values()),
            progress=dict(entry.progress),
            conflicts=entry.conflicts,
            maps=tuple(name for name, uid in entry.maps.items() if uid == entry.job.uid),
            profile_copy=entry.profile_copy,
        )

    def _drop_if_empty(self, key: Key) -> None:
        entry = self._entries[key]
        if entry.job is None and not (
            entry.ray_jobs or entry.pods or entry.progress or entry.maps or entry.profile_copy
        ):
            del self._entries[key]


def _list_held(entry: _Entry) -> Iterator[Versioned]:
    if entry.job is not None:
        yield entry.job
    yield from entry.ray_jobs.values()
    yield from entry.pods.values()


def _note_killed(entry: _Entry, pod: PodView) -> None:
    """Remember one pod of each role of an attempt."""
    if pod.is_oom_killed:
        entry.killed[pod.job_uid, pod.attempt, pod.role] = pod
    while len(entry.killed) > _MOST_KILLED:
        del entry.killed[next(iter(entry.killed))]


def _trim_killed(entry: _Entry) -> None:
    """Keep what the present attempt may be judged by; what a queue took away begins anew."""
    if not entry.killed or entry.job is None:
        return
    uid, number = entry.job.uid, entry.job.status.get("attempt") or 0
    held = {one.attempt for one in entry.ray_jobs.values() if one.is_held}
    entry.killed = {
        place: pod
        for place, pod in entry.killed.items()
        if pod.job_uid == uid and pod.attempt >= number and pod.attempt not in held
    }


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
