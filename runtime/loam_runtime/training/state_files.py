"""Training state as safetensors: nothing in a checkpoint can execute code when it is read.

torch.distributed.checkpoint is not used: its index is a pickle, and its safetensors writer
leaves shards without an index unless they are consolidated into whole tensors at every save.
What FSDP2 needs is simple, since it cuts every tensor along its first dimension in rank
order: each rank writes its pieces, and joining the files' pieces gives the tensor back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor, Shard

from loam_runtime.errors import StorageError

Tensors = Mapping[str, torch.Tensor]


def count_shards(tensors: Tensors, world_size: int) -> int:
    """How many files the state takes: one a rank where it is sharded, else one in all."""
    return world_size if any(isinstance(tensor, DTensor) for tensor in tensors.values()) else 1


def name_shard(rank: int, num_shards: int) -> str:
    """File name of one rank's pieces."""
    return f"state-{rank:05d}-of-{num_shards:05d}.safetensors"


def write_shard(tensors: Tensors, path: Path) -> None:
    """Write this rank's piece of every tensor."""
    save_file(
        {name: get_local(tensor).cpu().contiguous() for name, tensor in tensors.items()}, path
    )


@torch.no_grad()
def read_shards(tensors: Tensors, folder: Path, rank: int, num_shards: int, saved: int) -> None:
    """Fill `tensors` in place from a state saved as `saved` shards; `num_shards` are wanted now.

    Raises:
        StorageError: a tensor is missing in the files or has another shape.
    """
    wanted = [rank] if saved == num_shards > 1 else range(saved)
    files = [safe_open(folder / name_shard(index, saved), framework="pt") for index in wanted]
    for name, tensor in tensors.items():
        try:
            pieces = [file.get_tensor(name) for file in files]
            _fill(tensor, pieces, rank, num_shards)
        except Exception as exc:
            raise StorageError(
                f"The checkpoint in {folder.name} does not fit this model: {name}: {exc}",
                remedy="Remove the run's checkpoints to start anew.",
            ) from exc


def _fill(tensor: torch.Tensor, pieces: list[torch.Tensor], rank: int, num_shards: int) -> None:
    local = get_local(tensor)
    if len(pieces) == 1 and pieces[0].shape == local.shape:
        local.copy_(pieces[0])
        return
    if tensor.dim() == 0:  # a counter: every rank has the same
        local.copy_(pieces[0])
        return
    whole = torch.cat(pieces)
    own = whole.chunk(num_shards)[rank : rank + 1] if num_shards > 1 else (whole,)
    local.copy_(own[0] if own else whole[:0])


def get_local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's piece of a tensor, detached; all of it where it is not sharded."""
    if not isinstance(tensor, DTensor):
        return tensor.detach()
    assert all(
        isinstance(placement, Shard) and placement.dim == 0 for placement in tensor.placements
    )
    return tensor.detach().to_local()


def gather_whole(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Whole tensors on the CPU. Collective where they are sharded: call it on every rank."""
    return {
        name: (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()
        for name, tensor in tensors.items()
    }
