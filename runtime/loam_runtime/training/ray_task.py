"""What a training worker is given. It imports nothing heavy, see `ray_entry`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
