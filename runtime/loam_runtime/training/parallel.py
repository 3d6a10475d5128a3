"""Data parallelism, applied to the model from outside: replicas (DDP) or shards (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from loam_runtime.training.collate import collate
from loam_runtime.training.config import Sharding
from loam_runtime.training.distributed import Distributed
from loam_runtime.training.objective import SupervisedObjective


def parallelize(
    objective: SupervisedObjective, sharding: Sharding, distributed: Distributed
) -> nn.Module:
    """What to call for forward passes with gradients. One process needs no wrapper.

    Both kinds of parallelism average gradients over the ranks; the training step cancels that.
    """
    if distributed.world_size == 1:
        return objective
    if sharding == "fullShard":
        return _shard(objective, distributed)
    return _replicate(objective)


def defer_reduction(module: nn.Module, is_last: bool) -> AbstractContextManager:
    """Reduce DDP's gradients once a step, in the last micro-batch's backward pass.

    FSDP2 reduces in every one: keeping unsharded gradients would give up what sharding saves.
    """
    if is_last or not isinstance(module, DistributedDataParallel):
        return nullcontext()
    return module.no_sync()


def _replicate(objective: SupervisedObjective) -> DistributedDataParallel:
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    _broadcast(trained)
    # init_sync would send the frozen base as well, which every rank has read from the same file.
    replica = DistributedDataParallel(objective, init_sync=False, forward_sync_buffers=False)
    # DDP re-arranges its buckets after the first backward pass, and with them the order of
    # summation. Spending that pass here makes the first step after a resume like any other.
    placeholder = collate([]).to(trained[0].device)
    replica(placeholder).backward()
    replica.zero_grad(set_to_none=True)
    return replica


def _broadcast(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        dist.broadcast(parameter.data, src=0)


def _shard(objective: SupervisedObjective, distributed: Distributed) -> nn.Module:
    mesh = init_device_mesh(distributed.device.type, (distributed.world_size,))
    # Parameters are gathered in fp32 and cast by autocast, layer by layer, as they are under
    # DDP. Gathering in bf16 would halve the traffic, and compute norms in bf16, which DDP does not.
    policy = MixedPrecisionPolicy(param_dtype=None, reduce_dtype=torch.float32)
    for layer in objective.causal_model.get_decoder().layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    sharded = fully_shard(objective, mesh=mesh, mp_policy=policy)
    # Launchers have been seen to train replicas in silence where shards were asked for.
    assert all(isinstance(parameter, DTensor) for parameter in sharded.parameters())
    return sharded
