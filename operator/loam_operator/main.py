"""The operator's process: only wiring. `python -m loam_operator`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from datetime import UTC, datetime

import kopf

from loam_operator.accounts import count_jobs, count_launch, count_status
from loam_operator.api import Api, ApiError, connect
from loam_operator.cache import Cache, Key
from loam_operator.cluster import ApiCluster
from loam_operator.event_writer import EventWriter
from loam_operator.gpu_time import GpuMeter
from loam_operator.health import Health, serve
from loam_operator.lease import Lease
from loam_operator.observed import JobView
from loam_operator.settings import Settings, SettingsError, read_settings
from loam_operator.throttle import ProgressThrottle
from loam_operator.watching import keep_swept, look_around, register, watch
from loam_operator.work_queue import WorkQueue
from loam_operator.worker import Worker

logger = logging.getLogger("loam_operator")

_NEEDED = {
    ("/apis/loam.dev/v1alpha1", "finetunejobs", "finetuneprofiles"): (
        "Loam's CRDs are not installed, or are older than the operator: set crds.install in the "
        "chart."
    ),
    ("/apis/ray.io/v1", "rayjobs"): (
        "KubeRay is not installed: install its operator (1.6 or later) first."
    ),
}


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run until `stop` is set.

    Raises:
        SettingsError: something that the operator needs is not in the cluster.
    """
    # The lease has a connection of its own, for which no other request is in the way.
    async with await connect() as first:
        lease = Lease(Api(first), settings.namespace, settings.pod, time.monotonic)
        async with await connect(lease.is_held) as second:
            await _work(settings, stop, lease, Api(second))


async def _work(settings: Settings, stop: asyncio.Event, lease: Lease, api: Api) -> None:
    await _check_cluster(api)
    cache = Cache()
    health = Health(time.monotonic, lease.is_held)
    events = EventWriter(api, settings.pod, _read_clock)

    def note(before: JobView, after: JobView) -> None:
        count_status(before, after, _read_clock())
        events.tell(before, after)

    worker = Worker(
        cache,
        ApiCluster(api, settings),
        ProgressThrottle(),
        is_leader=lease.is_held,
        now=_read_clock,
        clock=time.monotonic,
        on_written=note,
        on_launched=lambda job, attempt: count_launch(job, attempt, _read_clock()),
    )
    queue = WorkQueue(worker.work_on, settings.num_workers)
    has_profiles = settings.profiles != "ignored"
    registry = kopf.OperatorRegistry()
    register(registry, cache, queue.add, health.hear_pulse, has_profiles=has_profiles)
    await look_around(api, cache, settings.namespaces, has_profiles=has_profiles)
    runner = await serve(health, settings.port, lambda: count_jobs(cache.list_jobs()))

    def begin() -> None:
        for job in cache.list_jobs():
            queue.add(Key(job.namespace, job.name))

    have_begun = asyncio.Event()
    tasks = [
        asyncio.create_task(queue.run()),
        asyncio.create_task(lease.run(begin, health.note_renewal)),
        asyncio.create_task(GpuMeter(time.monotonic).run(cache.list_with_pods, lease.is_held)),
        asyncio.create_task(events.run()),
        asyncio.create_task(keep_swept(api, cache, settings.namespaces, queue.add, have_begun)),
        asyncio.create_task(
            watch(registry, settings.pod, _list_namespaces(settings), stop, have_begun)
        ),
        asyncio.create_task(stop.wait()),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        stop.set()
        for task in tasks[:5]:
            task.cancel()
        await asyncio.wait(tasks, timeout=10)
        await lease.release()
        await runner.cleanup()


def _list_namespaces(settings: Settings) -> list[str]:
    """With the operator's own, which holds its Lease; empty for all."""
    if not settings.namespaces:
        return []
    return sorted({*settings.namespaces, settings.namespace})


async def _check_cluster(api: Api) -> None:
    for (path, *kinds), remedy in _NEEDED.items():
        found = await api.find(path) or {"resources": []}
        if not {one["name"] for one in found["resources"]} >= set(kinds):
            raise SettingsError(remedy)


def _read_clock() -> datetime:
    return datetime.now(UTC)


def main() -> int:
    """Entry point; returns the exit code."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # kopf's word on every event is not news.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        asyncio.run(_run_until_signal(read_settings()))
    except (SettingsError, ApiError) as error:
        logger.error("%s", error)
        return 1
    return 0


async def _run_until_signal(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await run(settings, stop)


if __name__ == "__main__":
    sys.exit(main())
