"""What is sent to Ray's processes. It imports nothing heavy: Ray's controller unpickles it too,
before it starts the workers, and would spend seconds on libraries that only they need.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loam_runtime.training.config import TrainConfig
from loam_runtime.training.run_address import RunAddress

ADAPTER_PREFIX = "training/adapter"


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """What every worker is given. Paths are read on the worker's own machine."""

    config: TrainConfig
    model_folder: Path
    train_path: Path
    validation_path: Path | None
    run: RunAddress
    work_dir: Path
    output_dir: Path
    driver_node: str


def run_worker(settings: dict[str, Any]) -> dict[str, Any] | None:
    """Ray Train's training function; see `ray_worker.work`."""
    from loam_runtime.training.ray_worker import work

    return work(settings["task"], settings["mailbox"])
