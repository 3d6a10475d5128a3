"""What runs inside each Ray Train worker: the plain loop, with a mailbox to the driver."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import ray
import ray.train.torch
import torch

from loam_runtime.errors import DivergenceError, LoamError, OutOfMemoryError
from loam_runtime.storage.run_store import RunStore
from loam_runtime.training.checkpoint import CheckpointStore
from loam_runtime.training.distributed import Distributed, join_group
from loam_runtime.training.drain import hold_pod
from loam_runtime.training.loop import train
from loam_runtime.training.ray_task import ADAPTER_PREFIX, WorkerTask
from loam_runtime.training.rows import read_encoded
from loam_runtime.training.shared_inputs import fetch_model, fetch_rows

_STOP_CHECK_SECONDS = 0.1  # an answer takes about 1 ms


class _Line:
    """One worker's end of the mailbox."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._asked_at = time.monotonic()

    def post(self, event: dict[str, Any]) -> None:
        self._mailbox.post.remote(event)

    def should_stop(self) -> bool:
        """Whether the driver wants an end; asked at intervals, not in every step."""
        if time.monotonic() - self._asked_at < _STOP_CHECK_SECONDS:
            return False
        self._asked_at = time.monotonic()
        return ray.get(self._mailbox.is_stop_requested.remote())

    def flush(self) -> None:
        """Wait until all that was posted has arrived: an actor answers one caller in order."""
        ray.get(self._mailbox.is_stop_requested.remote())


def localize_task(task: WorkerTask, run: RunStore) -> WorkerTask:
    """The task with model and rows on this machine, from their stores."""
    folder = task.work_dir / "rows"
    return replace(
        task,
        model_folder=fetch_model(task.model),
        train_path=fetch_rows(run, task.train_path, folder),
        validation_path=task.validation_path and fetch_rows(run, task.validation_path, folder),
    )


def work(task: WorkerTask, mailbox: Any) -> dict[str, Any] | None:
    """Train as this worker of the group.

    Returns:
        On rank 0, the result as a dictionary; None if training ended otherwise.

    Raises:
        Exception: only what a restart of all workers may heal (a lost peer), or what has to end
            the other workers, which wait for this one in a collective operation.
    """
    if ray.get(mailbox.get_failure.remote()):
        return None
    distributed = join_group(ray.train.torch.get_device())
    try:
        return _train(task, distributed, _Line(mailbox))
    except (DivergenceError, KeyboardInterrupt) as exc:  # decided by all ranks together
        ray.get(mailbox.fail.remote(exc))
    except Exception as exc:
        # A lost peer shows as a RuntimeError of the collective operation it was missing in.
        alone = distributed.world_size == 1
        if alone or not isinstance(exc, RuntimeError) or isinstance(exc, torch.OutOfMemoryError):
            ray.get(mailbox.fail.remote(_make_portable(exc)))
        if not alone:
            raise
    return None


def _make_portable(exc: Exception) -> LoamError:
    """An error that any process can read."""
    if isinstance(exc, LoamError):
        return exc
    kind = OutOfMemoryError if isinstance(exc, torch.OutOfMemoryError) else LoamError
    return kind(f"Training failed: {type(exc).__name__}: {exc}")


def _tell_download(distributed: Distributed, line: _Line, seconds: float) -> None:
    """All wait for whoever downloads longest; who is on the driver's machine has everything."""
    longest = -distributed.min(-seconds)[0]
    if distributed.is_main and longest:
        line.post({"event": "download", "seconds": longest})


def _train(task: WorkerTask, distributed: Distributed, line: _Line) -> dict[str, Any] | None:
    context = ray.train.get_context()
    if distributed.device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
    run = task.run.open()
    is_with_driver = ray.get_runtime_context().get_node_id() == task.driver_node
    started = time.monotonic()
    if not is_with_driver:
        task = localize_task(task, run)
    _tell_download(distributed, line, 0.0 if is_with_driver else time.monotonic() - started)
    validation_rows = read_encoded(task.validation_path) if task.validation_path else ()
    work_dir = task.work_dir / f"rank-{distributed.rank}"
    with hold_pod() as drain:
        result = train(
            task.config,
            task.model_folder,
            read_encoded(task.train_path),
            validation_rows,
            distributed,
            CheckpointStore(run, work_dir, task.config.keep_last),
            task.output_dir,
            line.post,
            line.should_stop,
            drain,
        )
    if not distributed.is_main:
        return None
    if not is_with_driver:
        run.upload_folder(task.output_dir, ADAPTER_PREFIX)
    line.flush()
    return result.to_dict()
