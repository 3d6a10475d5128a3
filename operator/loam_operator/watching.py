"""What is there at the start, and then what changes: cache entries, and keys in the queue.

kopf watches. Only its `on.event` is used: any other handler would put finalizers and annotations on
the objects, and would be retried by kopf's rules instead of the queue's. The first look is our own,
so that nothing is decided on half a picture. kopf's indices promise the same, but wake the task of
every object for each one that they take in: with 1000 jobs, for two minutes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import kopf

from loam_operator.api import Api, ApiError
from loam_operator.cache import Cache, Key
from loam_operator.kinds import Kind, list_kinds
from loam_operator.metrics import WATCH_EVENTS, WATCH_RESTARTS

logger = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
# Between two sweeps: at first, after the watches have begun, and at most.
FIRST_SWEEP_SECONDS = 10.0
SWEEP_SECONDS = 300.0

Enqueue = Callable[[Key], None]

_LEASES = ("coordination.k8s.io", "v1", "leases")


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf copies every object to compare it with the last one, also where no handler asks for the
    difference: a sixth of the operator's CPU time."""

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        raise AssertionError("no handler asks for differences")

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        return {}


async def look_around(
    api: Api, cache: Cache, namespaces: tuple[str, ...], *, has_profiles: bool
) -> None:
    """Take all that is there into the cache.

    Args:
        namespaces: none for all.
        has_profiles: whether the operator may read FineTuneProfiles.

    Raises:
        ApiError: a kind cannot be listed.
    """
    for kind in list_kinds(has_profiles=has_profiles):
        for path in kind.list_paths(namespaces):
            async for raw in api.list(path, labelSelector=kind.selector):
                kind.keep(cache, raw)


async def keep_swept(
    api: Api,
    cache: Cache,
    namespaces: tuple[str, ...],
    enqueue: Enqueue,
    have_begun: asyncio.Event,
) -> None:
    """Find the deletions that no watch has told of, until cancelled.

    Soon after the watches begin, then ever more seldom: what went between our own look and kopf's
    list of its kind is in none of its events, and a head pod that is gone must not be waited for.

    Args:
        have_begun: set by `watch`, each time.
    """
    pause = FIRST_SWEEP_SECONDS
    while True:
        try:
            # Not `wait_for`: kopf, when it ends, cancels the tasks of others that began after it.
            async with asyncio.timeout(pause):
                await have_begun.wait()
            have_begun.clear()
            pause = FIRST_SWEEP_SECONDS
            continue
        except TimeoutError:
            pause = min(2 * pause, SWEEP_SECONDS)
        try:
            for key in await sweep(api, cache, namespaces):
                enqueue(key)
        except ApiError as error:
            logger.warning("What is gone could not be found out: %s", error)


async def sweep(api: Api, cache: Cache, namespaces: tuple[str, ...]) -> list[Key]:
    """Drop from the cache the jobs, RayJobs and pods that are no more; returns whose they were.

    Raises:
        ApiError: a kind cannot be listed; nothing is dropped.
    """
    held = cache.list_uids()  # what comes while the lists are read is not in them
    for kind in list_kinds(has_profiles=False):
        if kind.plural == "configmaps":
            continue  # nobody counts them
        for path in kind.list_paths(namespaces):
            async for raw in api.list(path, is_short=True, labelSelector=kind.selector):
                held.discard(raw["metadata"]["uid"])
    return cache.remove_all(held) if held else []


async def watch(
    registry: kopf.OperatorRegistry,
    identity: str,
    namespaces: list[str],
    stop: asyncio.Event,
    have_begun: asyncio.Event,
) -> None:
    """Follow all registered kinds until `stop` is set, or the process is asked to end.

    kopf gives up on an error in the middle of a stream, and on some connections that are cut. Then
    all kinds are listed anew; what the operator works on goes on meanwhile. What was deleted in
    between is in no list: `sweep` finds it.

    Args:
        identity: of the pod.
        namespaces: none for all.
        have_begun: set whenever all kinds are about to be listed.
    """
    settings = kopf.OperatorSettings()
    _configure(settings)
    while True:
        have_begun.set()
        try:
            await kopf.operator(
                registry=registry,
                settings=settings,
                standalone=True,
                # By default it asks for the user's name, and the image's number has none.
                identity=cast(Any, identity),
                clusterwide=not namespaces,
                namespaces=namespaces,
                stop_flag=stop,
            )
            return  # asked to stop: by the flag, or by a signal, which kopf takes for itself
        except Exception as exc:
            WATCH_RESTARTS.inc()
            logger.warning("The watches ended and begin anew: %r", exc)
            await asyncio.sleep(RESTART_SECONDS)


def _configure(settings: kopf.OperatorSettings) -> None:
    """Set what keeps watches alive and kopf's hands off the objects."""
    # The server ends a watch after this, and kopf begins another where it ended. Where the server
    # remembers no more from when on (410), kopf lists anew, and hears of no deletion before.
    settings.watching.server_timeout = 600
    settings.watching.client_timeout = 660
    settings.watching.connect_timeout = 20
    settings.watching.chunk_size = 500
    for kind in list_kinds(has_profiles=True):
        if kind.selector:
            settings.watching.label_selectors[kind.plural] = kind.selector
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
    for kind in list_kinds(has_profiles=has_profiles):
        _follow(registry, kind, cache, enqueue)

    @kopf.on.login(registry=registry)
    async def _(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(*_LEASES, registry=registry)
    async def _(**_: Any) -> None:
        WATCH_EVENTS.labels("leases").inc()
        pulse()


def _follow(registry: kopf.OperatorRegistry, kind: Kind, cache: Cache, enqueue: Enqueue) -> None:
    place = (kind.group, kind.version, kind.plural)

    @kopf.on.event(*place, registry=registry, id=f"hear-{kind.plural}")
    async def _(type: str | None, body: kopf.Body, **_: Any) -> None:
        WATCH_EVENTS.labels(kind.plural).inc()
        take = kind.drop if type == "DELETED" else kind.keep
        for key in take(cache, body):
            enqueue(key)
