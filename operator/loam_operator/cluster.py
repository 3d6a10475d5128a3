"""The `Cluster` of a real API server."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from loam_operator.api import Api, ApiError
from loam_operator.cache import Key
from loam_operator.checking import check_spec
from loam_operator.children import build_children
from loam_operator.decision import Launch, ResizeWorkers
from loam_operator.effective import apply_profile
from loam_operator.event_reader import EventReader
from loam_operator.hints import read_hints
from loam_operator.names import JOB_LABEL, JOB_UID_LABEL
from loam_operator.network import build_network_policy
from loam_operator.observed import Hint, JobView, Observed, PodLog, RayJobView, Tenancy
from loam_operator.placement import place
from loam_operator.pod_logs import read_logs
from loam_operator.profile_reader import ProfileReader
from loam_operator.rayjob import build_ray_job
from loam_operator.settings import Settings
from loam_operator.views import (
    find_attempt,
    find_job_uid,
    find_owner,
    is_manifest,
    is_of_earlier,
    is_progress,
    view_job,
    view_pod,
    view_profile_copy,
    view_progress,
    view_ray_job,
)
from loam_operator.worker import ConflictError, GoneError, RefusedError, TakenError

_PATHS = {
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "RayJob": "/apis/ray.io/v1/namespaces/{}/rayjobs",
    "RayCluster": "/apis/ray.io/v1/namespaces/{}/rayclusters",
    "FineTuneJob": "/apis/loam.dev/v1alpha1/namespaces/{}/finetunejobs",
}
_REFUSALS = (400, 403, 422)  # admission, quota, rights; fields that are not known
_MOST_TRIES = 20  # of a write against those of others
# The ConfigMaps come first and go last: only they are watched, and by them the rest is found. An
# operator that has no more rights than it gives is refused a binding to a Role that is not there.
_WAVES = {"ConfigMap": 1, "RoleBinding": 3}  # all others: 2
_ACCESS_KINDS = ("RoleBinding", "Role", "ServiceAccount", "NetworkPolicy", "ConfigMap")


class ApiCluster:
    """Reads and writes for one job at a time; safe for several jobs at once."""

    def __init__(self, api: Api, settings: Settings) -> None:
        self._api = api
        self._settings = settings
        self._events = EventReader(api, time.monotonic)
        self._profiles = ProfileReader(api)

    async def read_observed(self, key: Key) -> Observed | None:
        raw = await self._api.find(_locate("FineTuneJob", *key))
        if raw is None:
            return None
        job = view_job(raw)
        ray_jobs, pods, maps = await asyncio.gather(
            *(self._list(kind, key) for kind in ("RayJob", "Pod", "ConfigMap"))
        )
        shared = [one for one in maps if is_manifest(one) or is_progress(one)]
        return Observed(
            job,
            tuple(view_ray_job(one) for one in ray_jobs),
            tuple(view_pod(one) for one in pods),
            progress=next((view_progress(one) for one in maps if is_progress(one)), {}),
            maps=tuple(
                str(one["metadata"]["name"]) for one in shared if find_job_uid(one) == job.uid
            ),
            profile_copy=next((view_profile_copy(one) for one in maps if is_manifest(one)), ""),
        )

    async def read_tenancy(self, namespace: str) -> Tenancy:
        if self._settings.profiles == "ignored":
            return Tenancy()
        profiles = await self._profiles.read()
        # Who has no profile by labels needs no right to read namespaces.
        is_asked = any(one.spec and one.spec.namespace_selector for one in profiles)
        labels = await self._read_labels(namespace) if is_asked else {}
        return Tenancy(profiles, labels, is_required=self._settings.profiles == "required")

    async def _read_labels(self, namespace: str) -> dict[str, str]:
        raw = await self._api.find(f"/api/v1/namespaces/{namespace}")
        return dict(raw["metadata"].get("labels") or {}) if raw else {}

    async def _list(self, kind: str, key: Key) -> list[dict[str, Any]]:
        path = _PATHS[kind].format(key.namespace)
        answer = await self._api.get(path, labelSelector=f"{JOB_LABEL}={key.name}")
        return list(answer.get("items") or [])

    async def patch_status(self, job: JobView, patch: dict[str, Any]) -> JobView:
        for _ in range(_MOST_TRIES):
            try:
                return await self._patch_status(job, patch)
            except ConflictError:
                job = await self._read_unchanged(job)
        raise ConflictError

    async def _patch_status(self, job: JobView, patch: dict[str, Any]) -> JobView:
        body = {
            # The uid too: a job of the same name that was created since is another one.
            "metadata": {"resourceVersion": job.resource_version, "uid": job.uid},
            "status": patch,
        }
        path = f"{_locate('FineTuneJob', job.namespace, job.name)}/status"
        try:
            return view_job(await self._api.patch(path, body), job)
        except ApiError as error:
            if error.status == 404:
                raise GoneError from error
            if error.status == 409:
                raise ConflictError from error
            raise

    async def _read_unchanged(self, job: JobView) -> JobView:
        """The job as it is now, where nothing has changed that a decision looks at: others may
        write labels faster than the operator can decide anew.

        Raises:
            ConflictError: more has changed.
            GoneError: it is no more.
        """
        raw = await self._api.find(_locate("FineTuneJob", job.namespace, job.name))
        if raw is None:
            raise GoneError
        current = view_job(raw)
        if replace(current, resource_version=job.resource_version) != job:
            raise ConflictError
        return current

    async def create_attempt(self, job: JobView, launch: Launch) -> RayJobView:
        job = apply_profile(job, launch.profile)
        network = build_network_policy(job, launch.profile.spec.egress, self._settings)
        wanted = [network, *build_children(job, launch.profile)]
        for wave in (1, 2, 3):
            children = [one for one in wanted if _WAVES.get(one["kind"], 2) == wave]
            await self._provide_all(job, children, launch)
        ray_job = build_ray_job(job, check_spec(job), launch, self._settings)
        return view_ray_job(await self._ensure(job, place(ray_job, launch.profile.spec)))

    async def _provide_all(
        self, job: JobView, wanted: list[dict[str, Any]], launch: Launch
    ) -> None:
        # Side by side: where the API server is far, one after the other is what a job waits for.
        children = [self._provide(job, child, launch) for child in wanted]
        for outcome in await asyncio.gather(*children, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _provide(self, job: JobView, child: dict[str, Any], launch: Launch) -> None:
        # The first attempt has made them, as a rule: to look costs less than to be refused.
        if launch.attempt == 1 or not await self._find_own(job, child):
            await self._ensure(job, child)

    async def _ensure(self, job: JobView, wanted: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._api.create(_PATHS[wanted["kind"]].format(job.namespace), wanted)
        except ApiError as error:
            if error.status in _REFUSALS or "webhook" in str(error):
                about = f"{wanted['kind']} {wanted['metadata']['name']}"
                raise RefusedError(about, str(error)) from error
            if error.reason != "AlreadyExists":
                raise
        held = await self._find_own(job, wanted)
        if held is None:
            raise ConflictError
        return held

    async def _find_own(self, job: JobView, wanted: dict[str, Any]) -> dict[str, Any] | None:
        """The object of this name, if there is one.

        Raises:
            TakenError: it is another owner's, or another attempt's.
            ConflictError: it is being deleted, or will be.
        """
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        held = await self._api.find(_locate(kind, job.namespace, name))
        if held is None:
            return None
        # In the background a deleted job's children go after it, when the collector has found them.
        if "deletionTimestamp" in held["metadata"] or is_of_earlier(held, job):
            raise ConflictError
        if find_owner(held) != job.uid or find_attempt(held) != find_attempt(wanted):
            raise TakenError(f"{kind} {name}")
        if wanted.get("immutable") and not _is_same(held, wanted):
            # By an earlier profile or budget; or by somebody who would like to have another one.
            await self._delete_one(job, kind, name)
            raise ConflictError
        return held

    async def _delete_one(self, job: JobView, kind: str, name: str) -> None:
        await self._api.delete(
            _PATHS[kind].format(job.namespace),
            labelSelector=f"{JOB_UID_LABEL}={job.uid}",
            fieldSelector=f"metadata.name={name}",
        )

    async def find_conflicts(self, job: JobView, names: tuple[str, ...]) -> tuple[str, ...]:
        found = []
        for full in names:
            kind, name = full.split(" ", 1)
            held = await self._api.find(_locate(kind, job.namespace, name))
            if held and find_owner(held) != job.uid and not is_of_earlier(held, job):
                found.append(full)
        return tuple(found)

    async def find_hints(self, observed: Observed, ray_job: RayJobView) -> tuple[Hint, ...]:
        return await read_hints(self._api, self._events, observed, ray_job)

    async def read_logs(self, observed: Observed, attempt: int) -> tuple[PodLog, ...]:
        return await read_logs(self._api, observed, attempt)

    async def resize_workers(self, job: JobView, resize: ResizeWorkers) -> None:
        group = "/spec/workerGroupSpecs/0"
        operations: list[dict[str, Any]] = [
            {"op": "replace", "path": f"{group}/replicas", "value": resize.num_workers},
            {
                "op": "add",
                "path": f"{group}/scaleStrategy",
                "value": {"workersToDelete": list(resize.unwanted)},
            },
        ]
        try:
            path = _locate("RayCluster", job.namespace, resize.cluster)
            await self._api.patch_by_operations(path, operations)
        except ApiError as error:
            if error.status != 404:
                raise

    async def delete_ray_cluster(self, job: JobView, name: str) -> None:
        await self._api.delete(_locate("RayCluster", job.namespace, name))

    async def delete_ray_job(self, job: JobView, name: str, uid: str) -> None:
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Foreground"}
        try:
            await self._api.delete(_locate("RayJob", job.namespace, name), body)
        except ApiError as error:
            if error.status != 409:  # another one has the name by now: this one is gone
                raise

    async def delete_access(self, job: JobView) -> None:
        for kind in _ACCESS_KINDS:
            path = _PATHS[kind].format(job.namespace)
            await self._api.delete(path, labelSelector=f"{JOB_UID_LABEL}={job.uid}")


def _is_same(held: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return bool(held.get("immutable")) and held.get("data") == wanted["data"]


def _locate(kind: str, namespace: str, name: str) -> str:
    return f"{_PATHS[kind].format(namespace)}/{name}"
