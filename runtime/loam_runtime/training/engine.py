"""The arithmetic of a step on one rank: forward, backward, update. It sees no data set, no file."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from loam_runtime.data.template import EncodedExample
from loam_runtime.errors import OutOfMemoryError
from loam_runtime.training.collate import collate
from loam_runtime.training.config import TrainConfig
from loam_runtime.training.distributed import Distributed
from loam_runtime.training.objective import SupervisedObjective
from loam_runtime.training.parallel import defer_reduction, parallelize
from loam_runtime.training.schedule import (
    MAX_GRAD_NORM,
    build_optimizer,
    name_moments,
    set_learning_rate,
)
from loam_runtime.training.state_files import get_local

MicroBatches = Sequence[Sequence[EncodedExample]]


class Engine:
    """A model under its parallelism, with its optimizer.

    Attributes:
        objective: the model and its loss, without DDP's wrapper.
        parameters: the trained ones by name; DTensors under sharding.
        tensors: those and the optimizer's moments: all that a checkpoint must hold.
    """

    def __init__(
        self, objective: SupervisedObjective, config: TrainConfig, distributed: Distributed
    ) -> None:
        self.objective = objective
        self._device = distributed.device
        self._world_size = distributed.world_size
        self._in_bf16 = config.precision == "bf16"
        self.module = parallelize(objective, config.sharding, distributed)
        self.module.train()
        named = objective.named_parameters()
        self.parameters = {name: tensor for name, tensor in named if tensor.requires_grad}
        self._optimizer = build_optimizer(self.parameters, config)
        self.tensors = {**self.parameters, **name_moments(self.parameters, self._optimizer)}

    def compute_loss(self, rows: Sequence[EncodedExample]) -> torch.Tensor:
        """Summed loss of a micro-batch, through the parallel module."""
        return self._call(self.module, rows)

    def _call(self, module: torch.nn.Module, rows: Sequence[EncodedExample]) -> torch.Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._in_bf16):
            return module(collate(rows).to(self._device))

    def accumulate(self, micro_batches: MicroBatches, total_weight: float) -> float:
        """Backward over this rank's micro-batches.

        Args:
            total_weight: of the global batch; the gradients become those of its mean loss.

        Returns:
            This rank's summed loss.

        Raises:
            OutOfMemoryError: the memory probe passed, and something else took memory since.
        """
        # The ranks' gradients get averaged; times world_size they are summed.
        scale = self._world_size / total_weight
        loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)
        try:
            for index, rows in enumerate(micro_batches):
                with defer_reduction(self.module, index == len(micro_batches) - 1):
                    loss = self.compute_loss(rows)
                    (loss * scale).backward()
                loss_sum += loss.detach()
        except torch.OutOfMemoryError as exc:
            raise OutOfMemoryError(
                f"A training step ran out of memory of {self._device}: {exc}",
                remedy="Lower microBatch, or let other processes leave the device.",
            ) from exc
        return loss_sum.item()

    def clip_gradients(self) -> float:
        """Limit the gradients' norm; returns the norm before, over all ranks."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), MAX_GRAD_NORM)
        return float(getattr(norm, "full_tensor", lambda: norm)())

    def update(self, learning_rate: float) -> None:
        """One optimizer step with the accumulated gradients."""
        set_learning_rate(self._optimizer, learning_rate)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def evaluate(self, micro_batches: MicroBatches) -> float:
        """This rank's summed loss, in evaluation mode."""
        self.module.eval()
        # Not through DDP, which would prepare for a backward pass.
        loss_sum = sum(self._call(self.objective, rows).item() for rows in micro_batches)
        self.module.train()
        return loss_sum

    @torch.no_grad()
    def predict_first(self, rows: Sequence[EncodedExample]) -> np.ndarray:
        """Logits of each row's first learned token, float32 [rows, vocabulary]; all ranks alike.

        One row at a time: without padding they depend on nothing but model and row.
        """
        self.module.eval()
        first = []
        for row in rows:
            batch = collate([row]).to(self._device)
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._in_bf16):
                logits = self.objective(batch, returns_logits=True)
            first.append(logits[0].cpu().numpy())
        self.module.train()
        return np.stack(first)

    @torch.no_grad()
    def count_bad_weights(self) -> int:
        """Trained tensors of this rank that hold a non-finite value."""
        tensors = map(get_local, self.parameters.values())
        return sum(int(not tensor.isfinite().all()) for tensor in tensors)


def count_elements(parameter: torch.Tensor) -> int:
    """Numbers that a parameter stands for; a 4-bit one is stored as fewer packed bytes."""
    packed = getattr(parameter, "quant_state", None)
    return math.prod(packed.shape) if packed else parameter.numel()
