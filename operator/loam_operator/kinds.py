"""The kinds of objects that the operator follows, and what becomes of each in the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from loam_operator.cache import Cache, Key
from loam_operator.names import MANAGED_LABEL, MANAGED_VALUE
from loam_operator.views import (
    find_job_uid,
    find_key,
    is_manifest,
    is_progress,
    view_job,
    view_pod,
    view_profile_copy,
    view_progress,
    view_ray_job,
)

Raw = Mapping[str, Any]
Take = Callable[[Cache, Raw], list[Key]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One of them.

    Attributes:
        group, version, plural: its place in the API; the group of core kinds is empty.
        keep, drop: take an object into the cache, or out of it; return the jobs it is news for.
        selector: of labels; empty for all objects.
    """

    group: str
    version: str
    plural: str
    keep: Take
    drop: Take
    selector: str = ""
    is_namespaced: bool = True

    def list_paths(self, namespaces: tuple[str, ...]) -> list[str]:
        """Where they are listed; no namespaces for the whole cluster."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if not (namespaces and self.is_namespaced):
            return [f"{root}/{self.plural}"]
        return [f"{root}/namespaces/{name}/{self.plural}" for name in namespaces]


def list_kinds(*, has_profiles: bool) -> list[Kind]:
    """All that are followed."""
    ours = f"{MANAGED_LABEL}={MANAGED_VALUE}"
    profiles = Kind(
        *("loam.dev", "v1alpha1", "finetuneprofiles"),
        _hear_profile,
        _hear_profile,
        is_namespaced=False,
    )
    return [
        *([profiles] if has_profiles else []),
        Kind("loam.dev", "v1alpha1", "finetunejobs", _keep_job, _drop_job),
        Kind("ray.io", "v1", "rayjobs", _keep_ray_job, _drop_ray_job, ours),
        Kind("", "v1", "pods", _keep_pod, _drop_pod, ours),
        Kind("", "v1", "configmaps", _keep_map, _drop_map, ours),
    ]


def _hear_profile(cache: Cache, _: Raw) -> list[Key]:
    """Nothing is kept: whoever has to judge a job by profiles reads them anew."""
    return cache.list_unruled()


def _keep_job(cache: Cache, raw: Raw) -> list[Key]:
    held = cache.find_job(Key(raw["metadata"]["namespace"], raw["metadata"]["name"]))
    return [cache.put_job(view_job(raw, held))]


def _drop_job(cache: Cache, raw: Raw) -> list[Key]:
    job = view_job(raw)
    cache.remove_job(Key(job.namespace, job.name), job.uid)
    return []


def _keep_ray_job(cache: Cache, raw: Raw) -> list[Key]:
    key = find_key(raw)
    if key is None:
        return []
    cache.put_ray_job(key, view_ray_job(raw))
    return [key]


def _drop_ray_job(cache: Cache, raw: Raw) -> list[Key]:
    key = find_key(raw)
    if key is None:
        return []
    cache.remove_ray_job(key, raw["metadata"]["name"], raw["metadata"]["uid"])
    return [key]


def _keep_pod(cache: Cache, raw: Raw) -> list[Key]:
    key = find_key(raw)
    if key is None:
        return []
    cache.put_pod(key, view_pod(raw))
    return [key]


def _drop_pod(cache: Cache, raw: Raw) -> list[Key]:
    key = find_key(raw)
    if key is None:
        return []
    cache.remove_pod(key, view_pod(raw))  # with its last state, which may be heard only here
    return [key]


def _keep_map(cache: Cache, raw: Raw) -> list[Key]:
    key = find_key(raw)
    if key is None or not (is_manifest(raw) or is_progress(raw)):
        return []
    cache.put_map(key, raw["metadata"]["name"], find_job_uid(raw))
    if is_manifest(raw):
        cache.put_profile_copy(key, view_profile_copy(raw))
        return []  # what the operator itself has written
    return [key] if cache.put_progress(key, view_progress(raw)) else []


def _drop_map(cache: Cache, raw: Raw) -> list[Key]:
    key = find_key(raw)
    if key is None or not (is_manifest(raw) or is_progress(raw)):
        return []
    cache.remove_map(key, raw["metadata"]["name"])
    if is_manifest(raw):
        cache.put_profile_copy(key, "")
        return []
    cache.remove_progress(key)
    return [key]
