"""The base model on a Ray worker. Imports little: Ray reads it before the model is wanted."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from loam_runtime.training.shared_inputs import ModelSource, fetch_model

if TYPE_CHECKING:
    from loam_runtime.models.language_model import LanguageModel
    from loam_runtime.models.vllm_model import VllmModel
    from loam_runtime.models.vllm_process import VllmProcess


@dataclass(frozen=True, slots=True)
class ModelTask:
    """What every actor is given.

    Attributes:
        source: where an actor on another machine than the driver's finds the model.
        folder: where one on the driver's machine does.
        precision: bf16 or fp32.
        num_sharing: actors that share a machine's CPUs.
        vllm_python: the interpreter that has vLLM; empty where transformers runs the model.
    """

    source: ModelSource
    folder: Path
    driver_node: str
    device: str
    precision: str
    num_sharing: int
    vllm_python: str


@ray.remote
class ModelActor:
    """One copy of the model; answers one call at a time."""

    def __init__(self, task: ModelTask) -> None:
        self._task = task
        self._model: LanguageModel | VllmModel | None = None
        self._process: VllmProcess | None = None

    def load(self) -> None:
        """Load the model."""
        task = self._task
        is_with_driver = ray.get_runtime_context().get_node_id() == task.driver_node
        folder = task.folder if is_with_driver else fetch_model(task.source)
        num_threads = max(1, (os.cpu_count() or 1) // task.num_sharing)
        if task.vllm_python:
            self._load_vllm(folder, num_threads)
        else:
            self._load_here(folder, num_threads)

    def _load_vllm(self, folder: Path, num_threads: int) -> None:
        from loam_runtime.models.vllm_model import open_vllm
        from loam_runtime.models.vllm_process import VllmProcess

        task = self._task
        self._process = VllmProcess(task.vllm_python, num_threads)
        self._model = open_vllm(self._process, folder, task.device, task.precision)

    def _load_here(self, folder: Path, num_threads: int) -> None:
        import torch

        from loam_runtime.models.language_model import LanguageModel
        from loam_runtime.models.loading import load_base, load_tokenizer, resolve_precision

        task = self._task
        if task.device == "cpu":
            torch.set_num_threads(num_threads)
        dtype = resolve_precision(task.precision, task.device)
        model = load_base(folder, device=task.device, dtype=dtype)
        self._model = LanguageModel(model, load_tokenizer(folder), keeps_prefix=True)

    def call(self, method: str, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        """What the model's method returns."""
        return getattr(self._model, method)(*arguments, **options)

    def release(self) -> None:
        """Give the model's memory back: a process that is told to end keeps it for a while."""
        import torch

        self._model = None
        if self._process is not None:
            self._process.stop()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
