"""One pass over one job: observe, decide, write the status, then act."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from loam_operator.cache import Cache, Key
from loam_operator.decision import (
    RECHECK_SECONDS,
    Action,
    Decision,
    DeleteAccess,
    DeleteRayCluster,
    DeleteRayJob,
    Launch,
    ResizeWorkers,
)
from loam_operator.history import find_live
from loam_operator.observed import Hint, JobView, Observed, PodLog, RayJobView, Tenancy
from loam_operator.reconcile import reconcile
from loam_operator.states import RUNNING
from loam_operator.status import build_patch, read_state, read_status
from loam_operator.throttle import LookThrottle, ProgressThrottle
from loam_operator.waits import REFUSED

logger = logging.getLogger(__name__)

_PROGRESS_FIELDS = {"progress", "usage", "cost"}
_MOVE_FIELDS = _PROGRESS_FIELDS | {"phase", "conditions", "attempts"}


class ConflictError(Exception):
    """The job has changed since it was seen; nothing was written."""


class TakenError(Exception):
    """An object that belongs to somebody else has the name of a child.

    Attributes:
        name: kind and name, such as "ConfigMap a-manifest".
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is another owner's")
        self.name = name


class RefusedError(Exception):
    """The API server will not have an object, for now.

    Attributes:
        name: kind and name of the object.
        words: the API server's.
    """

    def __init__(self, name: str, words: str) -> None:
        super().__init__(f"{name}: {words}")
        self.name = name
        self.words = words


class GoneError(Exception):
    """The job does not exist any more."""


class Cluster(Protocol):
    """What a pass does to the API server. Every call may fail, and is then made anew later."""

    async def read_observed(self, key: Key) -> Observed | None:
        """The job and all that carries its label, read now; None if there is no such job."""

    async def read_tenancy(self, namespace: str) -> Tenancy:
        """The rules for the jobs of a namespace, as they are now."""

    async def patch_status(self, job: JobView, patch: dict[str, Any]) -> JobView:
        """Write the status of the job as it was seen.

        Raises:
            ConflictError: it has changed since.
            GoneError: it is no more.
        """

    async def create_attempt(self, job: JobView, launch: Launch) -> RayJobView:
        """Create what is missing of an attempt, the RayJob last; returns the RayJob.

        Raises:
            TakenError: an object of another owner is in the way; then there is no RayJob.
            RefusedError: the API server refuses one; then there is no RayJob.
            ConflictError: an object of that name is still being deleted.
        """

    async def find_conflicts(self, job: JobView, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the named objects that are still there and another owner's."""

    async def find_hints(self, observed: Observed, ray_job: RayJobView) -> tuple[Hint, ...]:
        """What Kubernetes says of an attempt that does not get on, the newest first."""

    async def read_logs(self, observed: Observed, attempt: int) -> tuple[PodLog, ...]:
        """The last lines of an attempt's pods, as far as they can still be read."""

    async def resize_workers(self, job: JobView, resize: ResizeWorkers) -> None:
        """Change what a RayCluster is to have; it is no error if it is gone."""

    async def delete_ray_cluster(self, job: JobView, name: str) -> None:
        """Delete a RayCluster and its pods; it is no error if it is gone."""

    async def delete_ray_job(self, job: JobView, name: str, uid: str) -> None:
        """Delete this very RayJob and its pods before it; it is no error if it is gone."""

    async def delete_access(self, job: JobView) -> None:
        """Delete the job's manifest, progress and access rights, as far as they are its own."""


class Worker:
    """Works on one job at a time a key; several keys at once.

    Args:
        is_leader: asked before anything is written.
        now: the time, as it is written.
        clock: seconds that never go back.
        on_written: told the job before and after each write of its status.
        on_launched: told each attempt whose RayJob is there.
    """

    def __init__(
        self,
        cache: Cache,
        cluster: Cluster,
        throttle: ProgressThrottle,
        *,
        is_leader: Callable[[], bool],
        now: Callable[[], datetime],
        clock: Callable[[], float],
        on_written: Callable[[JobView, JobView], None] = lambda before, after: None,
        on_launched: Callable[[JobView, int], None] = lambda job, attempt: None,
    ) -> None:
        self._cache = cache
        self._cluster = cluster
        self._throttle = throttle
        self._is_leader = is_leader
        self._now = now
        self._clock = clock
        self._on_written = on_written
        self._on_launched = on_launched
        self._looks = LookThrottle()
        self._refusals: dict[Key, Hint] = {}

    async def work_on(self, key: Key) -> float | None:
        """Bring one job a step further.

        Returns:
            Seconds after which to look again at the latest; None for not before news of it.
        """
        observed = self._cache.observe(key)
        if observed is None:
            return None
        if not self._is_leader():  # who becomes it looks at every job
            return None
        try:
            observed = await self._recheck_conflicts(key, observed)
            refusal = self._refusals.pop(key, None)  # told once; then it is tried again
            if refusal is not None:
                observed = replace(observed, hints=(refusal,))
            observed, decision = await self._decide(observed)
            if decision.is_weighty or self._is_stale(key, decision):
                fresh = await self._read_fresh(key)
                if fresh is None:
                    return None
                fresh = replace(fresh, hints=observed.hints)
                observed, decision = await self._decide(fresh)
            if decision.wants_hints and self._may_look(key, decision):
                observed = await self._look_for_hints(observed)
                decision = reconcile(observed, self._now())
            if decision.wants_logs:
                observed = await self._read_logs(observed)
                decision = reconcile(observed, self._now())
            return await self._carry_out(key, observed, decision)
        except ConflictError:
            return await self._catch_up(key)
        except GoneError:
            self._forget(key)
            return None

    def _forget(self, key: Key) -> None:
        self._cache.forget(key)
        self._throttle.forget(key)
        self._looks.forget(key)
        self._refusals.pop(key, None)

    def _is_stale(self, key: Key, decision: Decision) -> bool:
        """Watches can lose events; a job that is not at its end is read again now and then."""
        state = read_state(decision.status)
        if state is not None and state.is_terminal:
            return False
        return self._cache.seconds_unchecked(key, self._clock()) >= RECHECK_SECONDS

    async def _read_fresh(self, key: Key) -> Observed | None:
        fresh = await self._cluster.read_observed(key)
        if fresh is None:
            self._forget(key)
            return None
        self._cache.replace(fresh, self._clock())
        return self._cache.observe(key)  # with what cannot be read any more

    async def _catch_up(self, key: Key) -> float | None:
        """Somebody else wrote first: see what is there now, and decide again."""
        return 1.0 if await self._read_fresh(key) is not None else None

    def _may_look(self, key: Key, decision: Decision) -> bool:
        """Events of a starting job come by the second; the answer does not change as fast."""
        live = find_live(decision.status)
        return live is not None and self._looks.may_look(key, live.number, self._clock())

    async def _look_for_hints(self, observed: Observed) -> Observed:
        live = find_live(read_status(observed.job.status))
        ray_job = observed.find_ray_job(live.step, live.number) if live else None
        if ray_job is None:
            return observed
        return replace(observed, hints=await self._cluster.find_hints(observed, ray_job))

    async def _read_logs(self, observed: Observed) -> Observed:
        """Before the attempt's end is written: from then on its pods may go."""
        live = find_live(read_status(observed.job.status))
        logs = await self._cluster.read_logs(observed, live.number) if live else ()
        return replace(observed, logs=logs)

    async def _decide(self, observed: Observed) -> tuple[Observed, Decision]:
        """Ask for the rules where a job has to be judged by them: their watch and that of the jobs
        are two, and one may be behind the other or have lost a deletion."""
        decision = reconcile(observed, self._now())
        if decision.wants_tenancy:
            tenancy = await self._cluster.read_tenancy(observed.job.namespace)
            observed = replace(observed, tenancy=tenancy)
            decision = reconcile(observed, self._now())
        return observed, decision

    async def _recheck_conflicts(self, key: Key, observed: Observed) -> Observed:
        if not observed.conflicts:
            return observed
        conflicts = await self._cluster.find_conflicts(observed.job, observed.conflicts)
        self._cache.set_conflicts(key, conflicts)
        return replace(observed, conflicts=conflicts)

    async def _carry_out(self, key: Key, observed: Observed, decision: Decision) -> float | None:
        job = observed.job
        patch = build_patch(job.status, decision.status)
        wait = self._defer(key, patch, decision)
        if wait:
            return min(wait, decision.requeue_seconds or wait)
        if patch:
            job = await self._write_status(key, job, patch)
        for action in decision.actions:
            if not self._is_leader():
                return None
            if not await self._perform(key, job, action):
                return 0.0
        return decision.requeue_seconds

    def _defer(self, key: Key, patch: dict[str, Any], decision: Decision) -> float:
        """Seconds for which a write waits that only shows how far the running attempt is."""
        if not patch or decision.actions:
            return 0.0
        if set(patch) <= _PROGRESS_FIELDS:
            return self._throttle.reserve(key, self._clock())
        state = read_state(decision.status)
        if set(patch) <= _MOVE_FIELDS and state is not None and state.name in RUNNING:
            return self._throttle.reserve(key, self._clock(), is_move=True)
        return 0.0

    async def _write_status(self, key: Key, job: JobView, patch: dict[str, Any]) -> JobView:
        before = read_state(read_status(job.status))
        written = await self._cluster.patch_status(job, patch)
        self._cache.put_job(written)
        after = read_state(read_status(written.status))
        if after is not None and after != before:
            logger.info("%s/%s: %s", job.namespace, job.name, after.name)
        self._on_written(job, written)
        return written

    async def _perform(self, key: Key, job: JobView, action: Action) -> bool:
        """Do it; False where what was found asks for another decision."""
        match action:
            case Launch():
                try:
                    ray_job = await self._cluster.create_attempt(job, action)
                except TakenError as error:
                    self._cache.set_conflicts(key, (error.name,))
                    return False
                except RefusedError as error:
                    self._refusals[key] = Hint(error.name, REFUSED, error.words)
                    return False
                self._cache.put_ray_job(key, ray_job)
                self._on_launched(job, action.attempt)
            case ResizeWorkers():
                about = f"{job.namespace}/{job.name}"
                logger.info("%s: %d worker pods are asked for", about, action.num_workers)
                await self._cluster.resize_workers(job, action)
            case DeleteRayCluster():
                await self._cluster.delete_ray_cluster(job, action.name)
            case DeleteRayJob():
                await self._cluster.delete_ray_job(job, action.name, action.uid)
            case DeleteAccess():
                await self._cluster.delete_access(job)
        return True
