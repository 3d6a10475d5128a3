"""Which job is looked at next: one entry a job, again later where asked, slower after errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from loam_operator.cache import Key
from loam_operator.metrics import QUEUE_LENGTH, QUEUE_SECONDS, RECONCILE_SECONDS, RECONCILES

logger = logging.getLogger(__name__)

_FIRST_ERROR_SECONDS = 0.5
_MOST_ERROR_SECONDS = 30.0


class WorkQueue:
    """Calls `work` for each key, never twice at once for one key.

    A key that is added while it is worked on is worked on once more.

    Args:
        work: returns the seconds after which to look again at the latest, or None.
    """

    def __init__(self, work: Callable[[Key], Awaitable[float | None]], num_workers: int) -> None:
        self._work = work
        self._num_workers = num_workers
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._added_at: dict[Key, float] = {}
        self._running: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._num_errors: dict[Key, int] = {}
        self.finished_at = 0.0

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Look at the key after `delay` seconds, or earlier if that was asked for before."""
        loop = asyncio.get_running_loop()
        if delay > 0:
            timer = self._timers.get(key)
            if timer is not None and timer.when() <= loop.time() + delay:
                return
            self._cancel_timer(key)
            self._timers[key] = loop.call_later(delay, self._add_now, key)
            return
        self._add_now(key)

    def _add_now(self, key: Key) -> None:
        self._cancel_timer(key)
        if key not in self._added_at:
            self._added_at[key] = asyncio.get_running_loop().time()
            if key not in self._running:
                self._ready.put_nowait(key)
        QUEUE_LENGTH.set(len(self._added_at))

    def _cancel_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._num_workers):
                group.create_task(self._run_worker())

    async def _run_worker(self) -> None:
        while True:
            key = await self._ready.get()
            loop = asyncio.get_running_loop()
            added_at = self._added_at.pop(key, loop.time())
            QUEUE_SECONDS.observe(loop.time() - added_at)
            QUEUE_LENGTH.set(len(self._added_at))
            self._running.add(key)
            try:
                delay = await self._work_once(key)
            finally:
                self._running.discard(key)
            if key in self._added_at:
                self._ready.put_nowait(key)
            elif delay is not None:
                self.add(key, delay)

    async def _work_once(self, key: Key) -> float | None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            delay = await self._work(key)
        except (Exception, asyncio.CancelledError) as exc:
            # Whatever it was, the job is looked at again; nothing else would. Cancelled may be just
            # a request of this pass: kopf, when it ends, cancels all tasks younger than itself.
            if _is_being_cancelled():
                raise
            RECONCILES.labels("error").inc()
            count = self._num_errors[key] = self._num_errors.get(key, 0) + 1
            delay = min(_FIRST_ERROR_SECONDS * 2 ** (count - 1), _MOST_ERROR_SECONDS)
            logger.warning("%s/%s: %s; again in %.1f s", *key, exc, delay, exc_info=count == 1)
        else:
            RECONCILES.labels("done").inc()
            self._num_errors.pop(key, None)
        self.finished_at = loop.time()
        RECONCILE_SECONDS.observe(loop.time() - started)
        return delay


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
