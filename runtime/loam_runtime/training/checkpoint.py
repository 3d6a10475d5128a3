"""Checkpoints of one run in its storage: written behind the training's back, complete or absent.

    checkpoints/step-00000123/state-00000-of-00002.safetensors   one file a shard
                              state-00001-of-00002.safetensors
                              loop.json                          the loop's counters and curves
                              complete-00000-of-00002            each shard's marker, put last
                              complete-00001-of-00002

A checkpoint exists once every shard's marker does. A marker for each shard, in place of one
for all, needs no barrier between upload threads, which could meet a collective of the
training itself.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError

from loam_runtime.errors import StorageError
from loam_runtime.storage.base import ObjectInfo
from loam_runtime.training.distributed import Distributed
from loam_runtime.training.state_files import (
    Tensors,
    count_shards,
    name_shard,
    read_shards,
    write_shard,
)

_PREFIX = "checkpoints"
_LOOP_FILE = "loop.json"
_MARKER = re.compile(r"checkpoints/step-(\d+)/complete-(\d+)-of-(\d+)$")
_STEP = re.compile(r"checkpoints/step-(\d+)/")


class CheckpointStorage(Protocol):
    """What a checkpoint store needs: an `ObjectStore`, or the part of one that a run owns."""

    def put(self, key: str, data: bytes) -> object: ...
    def get(self, key: str) -> bytes: ...
    def list(self, prefix: str = "") -> list[ObjectInfo]: ...
    def delete(self, key: str) -> None: ...
    def upload_file(self, path: Path, key: str) -> object: ...
    def download_file(self, key: str, path: Path) -> object: ...


@dataclass(frozen=True, slots=True)
class SavedCheckpoint:
    """One finished upload, as reported to the user.

    Attributes:
        seconds: from its first byte on the local disk to its last in the storage.
        waited_seconds: the part of them in which training stood still.
    """

    step: int
    seconds: float
    num_bytes: int
    waited_seconds: float = 0.0


class CheckpointStore:
    """Saves, finds, loads and rotates the checkpoints of one run, on every rank alike.

    Args:
        storage: the run's storage.
        work_dir: local folder for files on their way, this process's own.
        keep_last: complete checkpoints kept besides the best one.
    """

    def __init__(self, storage: CheckpointStorage, work_dir: Path, keep_last: int = 2) -> None:
        self._storage = storage
        self._work_dir = work_dir
        self._keep_last = keep_last
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._upload: Future[SavedCheckpoint] | None = None
        self._write_seconds = 0.0  # of what is uploaded

    def save(
        self, step: int, tensors: Tensors, loop: dict[str, Any], distributed: Distributed, best: int
    ) -> SavedCheckpoint | None:
        """Write the state of `step` to disk, and begin its upload.

        An upload still running is waited for first, so that one state at most is on its way.

        Args:
            tensors: parameters and optimizer state by name.
            loop: the loop's own state, JSON-able.
            best: step of the best checkpoint, which rotation spares; -1 for none.

        Returns:
            The previous upload, if it had not been reported yet.

        Raises:
            StorageError: the local disk is full, or the previous upload failed.
        """
        previous = self.wait()
        num_shards = count_shards(tensors, distributed.world_size)
        if distributed.rank >= num_shards:
            return previous
        start = time.perf_counter()
        folder = self._work_dir / f"step-{step:08d}"
        name = name_shard(distributed.rank, num_shards)
        self._write(folder, tensors, loop if distributed.is_main else None, name)
        self._write_seconds = time.perf_counter() - start
        self._upload = self._executor.submit(
            self._finish_save, step, folder, distributed.rank, num_shards, best, start
        )
        return previous

    def _write(
        self, folder: Path, tensors: Tensors, loop: dict[str, Any] | None, name: str
    ) -> None:
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_shard(tensors, folder / name)
            if loop is not None:
                (folder / _LOOP_FILE).write_text(json.dumps(loop))
        except (OSError, SafetensorError) as exc:
            raise StorageError(
                f"The checkpoint cannot be written to {folder}: {exc}.",
                remedy="Free some disk space, and run the same command again to resume.",
            ) from exc

    def _finish_save(
        self, step: int, folder: Path, rank: int, num_shards: int, best: int, start: float
    ) -> SavedCheckpoint:
        num_bytes = sum(file.stat().st_size for file in folder.iterdir())
        prefix = f"{_PREFIX}/{folder.name}"
        for file in sorted(folder.iterdir()):
            self._storage.upload_file(file, f"{prefix}/{file.name}")
        marker = f"{prefix}/complete-{rank:05d}-of-{num_shards:05d}"
        self._storage.put(marker, f"{num_bytes} bytes\n".encode())
        shutil.rmtree(folder)
        if rank == 0:
            self._rotate(best)
        return SavedCheckpoint(step, time.perf_counter() - start, num_bytes)

    def poll(self) -> SavedCheckpoint | None:
        """The upload that has finished since the last call, if any; raises what it raised."""
        return self.wait() if self._upload and self._upload.done() else None

    def wait(self) -> SavedCheckpoint | None:
        """Wait for the upload under way; like `poll` otherwise."""
        if not self._upload:
            return None
        upload, self._upload = self._upload, None
        start = time.perf_counter()
        saved = upload.result()
        return replace(saved, waited_seconds=self._write_seconds + time.perf_counter() - start)

    def latest(self) -> int | None:
        """The newest complete checkpoint's step."""
        return max(self._find_complete(), default=None)

    def _find_complete(self) -> dict[int, int]:
        """Number of shards of every complete checkpoint, by step."""
        markers: dict[tuple[int, int], int] = {}
        for info in self._storage.list(_PREFIX):
            if match := _MARKER.match(info.key):
                key = (int(match[1]), int(match[3]))
                markers[key] = markers.get(key, 0) + 1
        return {step: shards for (step, shards), count in markers.items() if count == shards}

    def load_loop(self, step: int) -> dict[str, Any]:
        """The loop's own state at `step`."""
        return json.loads(self._storage.get(f"{_PREFIX}/step-{step:08d}/{_LOOP_FILE}"))

    def load(self, step: int, tensors: Tensors, distributed: Distributed) -> None:
        """Fill `tensors` in place from the checkpoint of `step`.

        The number of workers may differ from the one that saved it.

        Raises:
            StorageError: the checkpoint does not fit these tensors.
        """
        saved = self._find_complete()[step]
        num_shards = count_shards(tensors, distributed.world_size)
        prefix, folder = f"{_PREFIX}/step-{step:08d}", self._work_dir / f"load-{step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        needed = [distributed.rank] if saved == num_shards > 1 else range(saved)
        for name in [name_shard(index, saved) for index in needed]:
            self._storage.download_file(f"{prefix}/{name}", folder / name)
        read_shards(tensors, folder, distributed.rank, num_shards, saved)
        shutil.rmtree(folder)

    def remove_incomplete(self) -> None:
        """Delete what a killed process left half-written; before training, by one rank alone."""
        self._delete(set(self._list_steps()) - set(self._find_complete()))

    def _rotate(self, best: int) -> None:
        complete = sorted(self._find_complete())
        kept = {best, *complete[-self._keep_last :]}
        self._delete(set(complete) - kept)

    def _list_steps(self) -> list[int]:
        keys = (info.key for info in self._storage.list(_PREFIX))
        return [int(match[1]) for key in keys if (match := _STEP.match(key))]

    def _delete(self, steps: set[int]) -> None:
        for step in sorted(steps):
            keys = [info.key for info in self._storage.list(f"{_PREFIX}/step-{step:08d}")]
            # Markers first: what is half deleted must not look complete.
            for key in sorted(keys, key=lambda key: (_MARKER.match(key) is None, key)):
                self._storage.delete(key)
