"""The journal's copy in object storage: immutable segments, one every few seconds."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Protocol

from loam_runtime.errors import LoamError, StorageError
from loam_runtime.storage.base import NotFoundError

PREFIX = "segments/"
UPLOAD_EVERY_SECONDS = 5.0  # what a lost disk may cost
COMPACT_FROM = 64  # segments; an hour makes 720, each of which a start reads by itself

LOAD_TRIES = 5

logger = logging.getLogger(__name__)


class StoredObject(Protocol):
    """What a listing says about one object."""

    key: str


class SegmentStore(Protocol):
    """The part of an object store that the journal needs; keys are relative to its place."""

    def put(self, key: str, data: bytes) -> object:
        """Write an object whole."""

    def get(self, key: str) -> bytes:
        """Read an object whole."""

    def list(self, prefix: str = "") -> list[StoredObject]:
        """The objects under a prefix."""

    def delete(self, key: str) -> None:
        """Remove an object."""


class SegmentUploader:
    """Collects journal lines and uploads them as segments that never change.

    A failed upload is tried again with the next one: the lines stay collected. Every start of a
    run writes under a name of its own, so that two never overwrite each other.
    """

    def __init__(self, store: SegmentStore) -> None:
        self._store = store
        self._writer = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        self._num_segments = 0
        self._lines: list[bytes] = []
        self._turn = asyncio.Lock()

    def load(self) -> list[bytes]:
        """All lines of all segments, in the order of their names; many segments become one.

        Raises:
            StorageError: the store cannot be read.
        """
        for _ in range(LOAD_TRIES):
            keys = sorted(item.key for item in self._store.list(PREFIX))
            try:
                lines = [line for key in keys for line in self._store.get(key).splitlines()]
            except NotFoundError:
                continue  # another run has just put them together
            if len(keys) >= COMPACT_FROM:
                self._compact(keys, lines)
            return lines
        raise StorageError(
            "The teacher journal's segments change faster than they can be read.",
            remedy="Run again.",
        )

    def _compact(self, keys: list[str], lines: list[bytes]) -> None:
        """Write the lines as one segment, then remove those that held them.

        A kill in between leaves lines twice, which readers take once; two runs that do this at
        the same time write the same.
        """
        try:
            data = b"\n".join(dict.fromkeys(lines)) + b"\n"
            self._store.put(f"{PREFIX}{self._writer}-compact.jsonl", data)
            for key in keys:
                self._store.delete(key)
        except LoamError as error:  # no right to delete: all is still there
            logger.warning("teacher journal: segments were not put together: %s", error)

    def add(self, line: bytes) -> None:
        """Collect one line (without its line end) for the next segment."""
        self._lines.append(line)

    async def run(self) -> None:
        """Upload at a steady pace until cancelled.

        Raises:
            LoamError: the store refuses for good (credentials, another writer's fence).
        """
        while True:
            await asyncio.sleep(UPLOAD_EVERY_SECONDS)
            await self.try_flush()

    async def try_flush(self) -> None:
        """What `flush` does, for now or for the next time."""
        try:
            await self.flush()
        except StorageError as error:
            logger.warning("teacher journal: upload failed, will be tried again: %s", error)

    async def flush(self) -> None:
        """Upload what is collected as one segment; nothing collected, nothing written.

        Raises:
            StorageError: the upload failed; the lines stay collected.
        """
        async with self._turn:
            if not self._lines:
                return
            count = len(self._lines)
            data = b"\n".join(self._lines[:count]) + b"\n"
            key = f"{PREFIX}{self._writer}-{self._num_segments:06d}.jsonl"
            # A name of its own even if this is cancelled: its thread may still be writing.
            self._num_segments += 1
            await asyncio.to_thread(self._store.put, key, data)
            del self._lines[:count]
