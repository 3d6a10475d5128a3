"""Finds, before the first step, the micro-batch that the device can hold."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import torch
from torch import nn

from loam_runtime.data.template import EncodedExample
from loam_runtime.errors import OutOfMemoryError
from loam_runtime.training.distributed import Distributed


def fit_micro_batch(
    module: nn.Module,
    longest_rows: Sequence[EncodedExample],
    compute_loss: Callable[[Sequence[EncodedExample]], torch.Tensor],
    distributed: Distributed,
) -> int:
    """Halve a micro-batch of the longest rows until it passes forward and backward on every rank.

    The optimizer's moments must be allocated already. No step is taken, gradients are dropped,
    and randomness is seeded anew by every training step: the run cannot tell that it was probed.

    Args:
        longest_rows: as many rows as the micro-batch that is wished for, longest first.
        compute_loss: the training step's forward pass, without any reduction over ranks.

    Raises:
        OutOfMemoryError: not even one row fits.
    """
    micro_batch = len(longest_rows)
    while True:
        fits = _try_backward(module, compute_loss, longest_rows[:micro_batch])
        if all(distributed.min(float(fits))):
            return micro_batch
        if micro_batch == 1:
            raise OutOfMemoryError(
                f"One row of {len(longest_rows[0].input_ids)} tokens does not fit into the memory "
                f"of {distributed.device}.",
                remedy="Lower maxSequenceLength, use qlora, or a device with more memory.",
            )
        micro_batch //= 2


def _try_backward(
    module: nn.Module,
    compute_loss: Callable[[Sequence[EncodedExample]], torch.Tensor],
    rows: Sequence[EncodedExample],
) -> bool:
    try:
        compute_loss(rows).backward()
    except torch.OutOfMemoryError:
        fits = False
    else:
        fits = True
    module.zero_grad(set_to_none=True)
    if not fits:
        gc.collect()  # the traceback held the activations until here
        torch.cuda.empty_cache()
    return fits
