"""Training in this very process: no Ray, one device."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from loam_runtime.training.checkpoint import CheckpointStorage, CheckpointStore
from loam_runtime.training.config import TrainConfig
from loam_runtime.training.distributed import join_group
from loam_runtime.training.drain import hold_pod
from loam_runtime.training.loop import Rows, train
from loam_runtime.training.result import TrainResult


def fit_locally(
    config: TrainConfig,
    model_folder: Path,
    train_rows: Rows,
    validation_rows: Rows,
    *,
    storage: CheckpointStorage,
    work_dir: Path,
    output_dir: Path,
    on_event: Callable[[dict[str, Any]], None] = lambda event: None,
) -> TrainResult:
    """Train in this process, or as this rank of a process group that is already set up.

    Args:
        storage: where checkpoints live.
        work_dir: local scratch space.

    Raises:
        LoamError: as `loop.train`.
        KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint of the last finished step is saved.
    """
    distributed = join_group(torch.device(config.device))
    checkpoints = CheckpointStore(storage, work_dir / f"rank-{distributed.rank}", config.keep_last)
    with defer_interrupts() as is_interrupted, hold_pod() as drain:
        return train(
            config,
            model_folder,
            train_rows,
            validation_rows,
            distributed,
            checkpoints,
            output_dir,
            on_event,
            is_interrupted,
            drain,
        )


@contextmanager
def defer_interrupts() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C or SIGTERM only be noted, so that a step is never torn; a second one
    acts as it would have. Yields whether one came. Only the main thread can do this.

    Raises:
        KeyboardInterrupt: at the end, where one came and nobody had asked any more.
    """
    noted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield noted.is_set
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: object) -> None:
        noted.set()
        signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, note)
    try:
        yield noted.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if noted.is_set():
        raise KeyboardInterrupt
