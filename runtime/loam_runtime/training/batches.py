"""Which examples make up optimizer step k, and which of them a rank computes.

Step k is a fixed list of examples that follows from (rows, global batch, seed) alone. The
number of workers and the micro-batch decide only who computes what, so a run may resume on
other hardware and see the same examples in the same steps; resuming needs only k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from loam_runtime.errors import InputError


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The batches of a whole run.

    An epoch is a permutation of all rows, cut into batches of equal size give or take one:
    17 rows with a global batch of 16 make 9 + 8, never 16 + 1, whose second step would follow
    the gradient of a single example.
    """

    num_rows: int
    global_batch: int
    seed: int

    def __post_init__(self) -> None:
        if self.num_rows < 1:
            raise InputError("There is no row to train on.", remedy="Give at least one example.")

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in which every row is seen exactly once."""
        return math.ceil(self.num_rows / self.global_batch)

    def count_steps(self, epochs: float) -> int:
        """Optimizer steps of `epochs` passes, at least one."""
        return max(1, math.ceil(epochs * self.steps_per_epoch - 1e-9))

    def select_rows(self, step: int) -> list[int]:
        """Row numbers of optimizer step `step`, which counts from 0 over all epochs."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        order = _permute(self.num_rows, self.seed, epoch)
        return np.array_split(order, self.steps_per_epoch)[batch].tolist()


@lru_cache(maxsize=2)
def _permute(num_rows: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_rows)


def assign_micro_batches(
    rows: Sequence[int], lengths: Sequence[int], rank: int, world_size: int, micro_batch: int
) -> list[list[int]]:
    """One rank's share of a batch, as micro-batches of similar length.

    Rows are sorted by length within the batch and dealt out like cards, so that ranks get
    equal work and little padding. Every rank gets the same number of micro-batches, the last
    ones possibly empty: under sharding each forward pass is a collective operation, and a rank
    that skipped one would leave the others waiting.

    Args:
        rows: row numbers of the batch.
        lengths: tokens of every row of the data set, indexed by row number.
    """
    ordered = sorted(rows, key=lambda row: (lengths[row], row))
    num_micro_batches = math.ceil(math.ceil(len(ordered) / world_size) / micro_batch)
    mine = ordered[rank::world_size]
    return [mine[i * micro_batch : (i + 1) * micro_batch] for i in range(num_micro_batches)]
