"""What the steps of one job share: its manifest, its inputs, the base model, and its run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from loam_runtime.models import loading
from loam_runtime.storage.registry import resolve_uri

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from loam_api.finetunejob import FineTuneJob
    from loam_runtime.models.language_model import LanguageModel
    from loam_runtime.sources import Sources
    from loam_runtime.storage.run_store import RunStore


@dataclass
class InputContext:
    """A job and what it reads: enough for the steps that publish nothing.

    Attributes:
        job: the validated manifest.
        base_dir: folder that relative URIs start at.
        sources: local copies of the inputs.
    """

    job: FineTuneJob
    base_dir: Path
    sources: Sources

    @property
    def output_uri(self) -> str:
        """The job's output, as any process on this machine can open it."""
        return resolve_uri(self.job.spec.output.uri, self.base_dir)

    @cached_property
    def model_folder(self) -> Path:
        """The base model as a folder of safetensors with its tokenizer."""
        return loading.prepare_model_folder(self.sources.model)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return loading.load_tokenizer(self.model_folder)

    @cached_property
    def device(self) -> str:
        return loading.resolve_device(self.job.spec.compute.device)

    @cached_property
    def dtype(self) -> torch.dtype:
        """What is computed in, the same before, during and after training."""
        return loading.resolve_precision(self.job.spec.training.precision, self.device)

    @property
    def precision(self) -> str:
        """The name of `dtype`, as manifests and training know it."""
        import torch

        return "bf16" if self.dtype is torch.bfloat16 else "fp32"

    @cached_property
    def base_model(self) -> LanguageModel:
        """The base model, loaded when it is first needed; see `release_base_model`."""
        from loam_runtime.models.language_model import LanguageModel

        model = loading.load_base(self.model_folder, device=self.device, dtype=self.dtype)
        return LanguageModel(model, self.tokenizer)

    def release_base_model(self) -> None:
        """Give its memory back: the training processes load their own."""
        self.__dict__.pop("base_model", None)
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()


@dataclass
class JobContext(InputContext):
    """One running job.

    Attributes:
        run: the run's prefix in object storage, its lock held.
        run_key: names the run.
        work_dir: local scratch folder of this run.
        micro_batch_divisor: how much smaller micro-batches are than planned, after an attempt
            that ran out of memory.
        num_pods: training pods of which this is one, each a machine of its own; 0 outside of a
            cluster, where all training processes share this machine.
    """

    run: RunStore
    run_key: str
    work_dir: Path
    micro_batch_divisor: int = 1
    num_pods: int = 0

    @property
    def has_keys(self) -> bool:
        """Whether the keys of the job's endpoints are on this machine: a worker pod has none."""
        return not self.num_pods
