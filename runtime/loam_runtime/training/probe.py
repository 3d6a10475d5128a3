"""Finds, before the first step, the micro-batch that the device can hold."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import torch

from loam_runtime.data.template import EncodedExample
from loam_runtime.errors import OutOfMemoryError
from loam_runtime.training.distributed import Distributed
from loam_runtime.training.engine import Engine
from loam_runtime.training.parallel import defer_reduction


def fit_micro_batch(
    engine: Engine,
    rows: Sequence[EncodedExample],
    lengths: Sequence[int],
    micro_batch: int,
    distributed: Distributed,
) -> int:
    """Halve `micro_batch` until the longest rows pass forward and backward on every rank.

    The optimizer's moments are allocated already. No step is taken, gradients are dropped, and
    every training step seeds its randomness anew: the run cannot tell that it was probed.

    Raises:
        OutOfMemoryError: not even one row fits.
    """
    order = sorted(range(len(rows)), key=lambda row: -lengths[row])
    longest = [rows[row] for row in order[:micro_batch]]
    micro_batch = len(longest)
    while not distributed.min(_fits(engine, longest[:micro_batch]))[0]:
        if micro_batch == 1:
            raise OutOfMemoryError(
                f"One row of {len(longest[0].input_ids)} tokens does not fit into the memory of "
                f"{distributed.device}.",
                remedy="Lower maxSequenceLength, use qlora, or a device with more memory.",
            )
        micro_batch //= 2
    return micro_batch


def _fits(engine: Engine, rows: Sequence[EncodedExample]) -> bool:
    try:
        # Replicas must not reduce here: a rank without memory would leave the others waiting.
        with defer_reduction(engine.module, is_last=False):
            engine.compute_loss(rows).backward()
    except torch.OutOfMemoryError:
        fits = False
    else:
        fits = True
    engine.module.zero_grad(set_to_none=True)
    if not fits:
        gc.collect()  # the traceback held the activations until here
        torch.cuda.empty_cache()
    return fits
