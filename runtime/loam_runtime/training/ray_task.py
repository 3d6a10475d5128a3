"""What a training worker is given. It imports nothing heavy, see `ray_entry`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loam_runtime.training.config import TrainConfig
from loam_runtime.training.run_address import RunAddress
from loam_runtime.training.shared_inputs import ModelSource

ADAPTER_PREFIX = "training/adapter"


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """What every worker is given. A worker on another machine than the driver's fetches model and
    rows for itself; see `shared_inputs`."""

    config: TrainConfig
    model: ModelSource
    model_folder: Path
    train_path: Path
    validation_path: Path | None
    run: RunAddress
    work_dir: Path
    output_dir: Path
    driver_node: str
