"""The group of training processes: who am I, and what do we agree on."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import distributed as dist


@dataclass(frozen=True, slots=True)
class Distributed:
    """One process of the group; alone by default, and then without any communication."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process speaks for all (events, rotation, the adapter)."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each value summed over all ranks, in double precision."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def min(self, *values: float) -> list[float]:
        """The smallest of each value over all ranks."""
        return self._reduce(values, dist.ReduceOp.MIN)

    def share(self, *values: float) -> list[float]:
        """Rank 0's values, on every rank."""
        return self.sum(*(value if self.is_main else 0.0 for value in values))

    def wait_for_all(self) -> None:
        """Return once every rank has come here."""
        self.sum(0.0)

    def _reduce(self, values: tuple[float, ...], operation: dist.ReduceOp.RedOpType) -> list[float]:
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, operation)
        return tensor.tolist()


def prefer_deterministic_kernels() -> None:
    """Ask CUDA for kernels that give the same bits in every run, where it has them.

    The resumed run promises the losses of an uninterrupted one; atomic additions break that.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, changes no result


def join_group(device: torch.device) -> Distributed:
    """The process group that the launcher (Ray Train, torchrun) has set up, if there is one."""
    if not dist.is_initialized():
        return Distributed(device)
    return Distributed(device, dist.get_rank(), dist.get_world_size())
