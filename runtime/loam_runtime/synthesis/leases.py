"""Two jobs that would ask the same take turns: the second finds the first one's answers.

A lease is one object of the journal's store, written by conditional put and renewed while its
holder lives. Its name is the key of the first request: jobs that share it share all that shapes
requests. A holder that died is succeeded when its time is up, at once on its own host.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from typing import Protocol, Self

from loam_runtime.errors import LoamError
from loam_runtime.observability.monitor import NullMonitor, StageMonitor
from loam_runtime.storage.base import ConflictError, NotFoundError
from loam_runtime.storage.processes import is_running, read_start

PREFIX = "leases/"
LEASE_SECONDS = 30.0
POLL_SECONDS = 1.0

logger = logging.getLogger(__name__)


class LeaseStore(Protocol):
    """The part of an object store that leases need."""

    def put(
        self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None
    ) -> str:
        """Write an object if the condition holds; returns its etag."""

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """The content of an object, and what `if_match` takes."""


class Lease:
    """Held while its block runs; an async context manager that waits for its turn.

    It guards money, not truth: a holder that was cut off from the store for longer than the lease
    may pay for answers that its successor pays for too, and nothing worse.

    Args:
        store: of the journal.
        name: what is leased.
        seconds: after which a holder that no longer renews counts as dead.
        monitor: told once that another job is waited for.

    Raises:
        LoamError: the store cannot be read or written.
    """

    def __init__(
        self,
        store: LeaseStore,
        name: str,
        *,
        seconds: float = LEASE_SECONDS,
        monitor: StageMonitor | None = None,
    ) -> None:
        self._store = store
        self._key = f"{PREFIX}{name}.json"
        self._seconds = seconds
        self._monitor = monitor or NullMonitor()
        self._nonce = secrets.token_hex(8)
        self._etag = ""
        self._ended = threading.Event()
        self._renewal = threading.Thread(target=self._renew, name="loam-lease", daemon=True)

    async def __aenter__(self) -> Self:
        is_told = False
        while not await asyncio.to_thread(self._try_to_take):
            if not is_told:
                self._monitor.log("waiting for a job that asks the teacher the same questions")
                is_told = True
            await asyncio.sleep(min(POLL_SECONDS, self._seconds / 3))
        # A thread, not a task: a filter may keep the event loop busy for minutes.
        self._renewal.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._ended.set()
        await asyncio.to_thread(self._renewal.join)
        with contextlib.suppress(LoamError):  # it runs out by itself
            await asyncio.to_thread(self._write, 0.0)

    def _try_to_take(self) -> bool:
        try:
            data, self._etag = self._store.get_with_etag(self._key)
        except NotFoundError:
            self._etag = ""
        else:
            if not _is_over(data):
                return False
        try:
            self._write(self._seconds)
        except ConflictError:
            return False  # another one was faster
        return True

    def _write(self, seconds: float) -> None:
        record = {
            "until": time.time() + seconds if seconds else 0.0,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": read_start(os.getpid()) or "",
            "nonce": self._nonce,
        }
        data = json.dumps(record).encode()
        if self._etag:
            self._etag = self._store.put(self._key, data, if_match=self._etag)
        else:
            self._etag = self._store.put(self._key, data, if_none_match=True)

    def _renew(self) -> None:
        while not self._ended.wait(self._seconds / 3):
            try:
                self._write(self._seconds)
            except ConflictError:
                logger.warning("teacher lease: another job has taken it over")
                return
            except LoamError as error:
                logger.warning("teacher lease: not renewed, will be tried again: %s", error)


def _is_over(data: bytes) -> bool:
    """Let go, run out, unreadable, or held by a process of this host that is no more."""
    try:
        record = json.loads(data)
        if record["until"] <= time.time():
            return True
        if record["host"] != socket.gethostname():
            return False
        return not is_running(int(record["pid"]), record["started"])
    except (ValueError, KeyError, TypeError):
        return True
