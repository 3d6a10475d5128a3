"""kopf's part: it watches, and each event becomes a cache entry and a key in the queue.

Only `index` and `on.event` are used: any other handler would put finalizers and annotations on the
objects, and would be retried by kopf's rules instead of the queue's. kopf runs no event handler
before every index has seen its first list, so that nothing is decided on half a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from loam_operator.cache import Cache, Key
from loam_operator.metrics import WATCH_EVENTS
from loam_operator.names import MANAGED_LABEL, MANAGED_VALUE
from loam_operator.views import (
    find_key,
    is_manifest,
    is_progress,
    view_job,
    view_pod,
    view_profile,
    view_profile_copy,
    view_progress,
    view_ray_job,
)

Body = kopf.Body
Enqueue = Callable[[Key], None]

_JOBS = ("loam.dev", "v1alpha1", "finetunejobs")
_PROFILES = ("loam.dev", "v1alpha1", "finetuneprofiles")
_RAY_JOBS = ("ray.io", "v1", "rayjobs")
_PODS = ("", "v1", "pods")
_MAPS = ("", "v1", "configmaps")
_LEASES = ("coordination.k8s.io", "v1", "leases")


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf copies every object to compare it with the last one, also where no handler asks for the
    difference: a sixth of the operator's CPU time."""

    def fetch(self, *, body: Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        raise AssertionError("no handler asks for differences")

    def build(self, *, body: Body, extra_fields: Any = None) -> kopf.BodyEssence:
        return {}


def configure(settings: kopf.OperatorSettings) -> None:
    """Set what keeps watches alive and kopf's hands off the objects."""
    # The server ends a watch after this; kopf then lists anew, which finds what was missed.
    settings.watching.server_timeout = 600
    settings.watching.client_timeout = 660
    settings.watching.connect_timeout = 20
    settings.watching.chunk_size = 500
    for _, _, plural in (_RAY_JOBS, _PODS, _MAPS):
        settings.watching.label_selectors[plural] = f"{MANAGED_LABEL}={MANAGED_VALUE}"
    settings.watching.label_selectors["leases"] = "loam.dev/lease=operator"
    settings.networking.request_timeout = 60
    settings.scanning.disabled = True  # the kinds are known; there is nothing to discover
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.queueing.idle_timeout = 1.0
    settings.peering.standalone = True


def register(
    registry: kopf.OperatorRegistry,
    cache: Cache,
    enqueue: Enqueue,
    pulse: Callable[[], None],
    *,
    has_profiles: bool,
) -> None:
    """Register the handlers of all kinds.

    Args:
        has_profiles: whether the operator may read FineTuneProfiles.
        pulse: called for each renewal of the operator's own Lease that comes back by a watch.
    """
    for kind, keep, drop in (
        (_JOBS, _keep_job, _drop_job),
        (_RAY_JOBS, _keep_ray_job, _drop_ray_job),
        (_PODS, _keep_pod, _drop_pod),
        (_MAPS, _keep_map, _drop_map),
    ):
        _watch(
            registry,
            kind,
            lambda raw, keep=keep: _list_key(keep(cache, raw)),  # type: ignore[misc]
            lambda raw, drop=drop: _list_key(drop(cache, raw)),  # type: ignore[misc]
            enqueue,
        )
    if has_profiles:
        _watch(
            registry,
            _PROFILES,
            lambda raw: cache.put_profile(view_profile(raw)),
            lambda raw: cache.remove_profile(raw["metadata"]["name"]),
            enqueue,
        )

    @kopf.on.login(registry=registry)
    async def _(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(*_LEASES, registry=registry)
    async def _(**_: Any) -> None:
        WATCH_EVENTS.labels("leases").inc()
        pulse()


def _watch(
    registry: kopf.OperatorRegistry,
    kind: tuple[str, str, str],
    keep: Callable[[Body], list[Key]],
    drop: Callable[[Body], list[Key]],
    enqueue: Enqueue,
) -> None:
    plural = kind[2]

    @kopf.index(*kind, registry=registry, id=f"keep-{plural}")
    async def _(body: Body, **_: Any) -> None:
        keep(body)

    @kopf.on.event(*kind, registry=registry, id=f"hear-{plural}")
    async def _(type: str | None, body: Body, **_: Any) -> None:
        WATCH_EVENTS.labels(plural).inc()
        for key in drop(body) if type == "DELETED" else keep(body):
            enqueue(key)


def _list_key(key: Key | None) -> list[Key]:
    return [] if key is None else [key]


def _keep_job(cache: Cache, raw: Body) -> Key | None:
    return cache.put_job(view_job(raw))


def _drop_job(cache: Cache, raw: Body) -> Key | None:
    job = view_job(raw)
    cache.remove_job(Key(job.namespace, job.name), job.uid)
    return None


def _keep_ray_job(cache: Cache, raw: Body) -> Key | None:
    key = find_key(raw)
    if key is not None:
        cache.put_ray_job(key, view_ray_job(raw))
    return key


def _drop_ray_job(cache: Cache, raw: Body) -> Key | None:
    key = find_key(raw)
    if key is not None:
        cache.remove_ray_job(key, raw["metadata"]["name"], raw["metadata"]["uid"])
    return key


def _keep_pod(cache: Cache, raw: Body) -> Key | None:
    key = find_key(raw)
    if key is not None:
        cache.put_pod(key, view_pod(raw))
    return key


def _drop_pod(cache: Cache, raw: Body) -> Key | None:
    key = find_key(raw)
    if key is not None:
        cache.remove_pod(key, raw["metadata"]["name"], raw["metadata"]["uid"])
    return key


def _keep_map(cache: Cache, raw: Body) -> Key | None:
    key = find_key(raw)
    if key is not None and is_manifest(raw):
        cache.put_profile_copy(key, view_profile_copy(raw))
        return None  # what the operator itself has written
    if key is None or not is_progress(raw):
        return None
    cache.put_progress(key, view_progress(raw))
    return key


def _drop_map(cache: Cache, raw: Body) -> Key | None:
    key = find_key(raw)
    if key is not None and is_manifest(raw):
        cache.put_profile_copy(key, "")
        return None
    if key is None or not is_progress(raw):
        return None
    cache.remove_progress(key)
    return key
