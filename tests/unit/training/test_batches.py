"""Which examples make up a step does not depend on who computes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam_runtime.errors import InputError
from loam_runtime.training.batches import BatchPlan, assign_micro_batches

sizes = st.integers(1, 200)


@given(num_rows=sizes, global_batch=sizes, seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 5))
def test_an_epoch_is_a_permutation(num_rows, global_batch, seed, epoch):
    """Every row exactly once an epoch: else some rows are never learned and others twice."""
    plan = BatchPlan(num_rows, global_batch, seed)
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    batches = [plan.select_rows(step) for step in steps]
    assert sorted(row for batch in batches for row in batch) == list(range(num_rows))
    assert {len(batch) for batch in batches} <= {len(batches[-1]), len(batches[-1]) + 1}
    assert max(len(batch) for batch in batches) <= global_batch


@given(
    rows=st.lists(st.integers(0, 10**6), min_size=1, max_size=64, unique=True),
    lengths_seed=st.integers(0, 9),
    world_size=st.integers(1, 9),
    micro_batch=st.integers(1, 9),
)
def test_ranks_share_a_batch_without_overlap(rows, lengths_seed, world_size, micro_batch):
    """The ranks' shares are together the batch, in equally many forward passes: a lost row
    changes the gradient, and a rank with fewer passes would leave sharded ranks waiting."""
    lengths = {row: (row * 7919 + lengths_seed) % 50 + 1 for row in rows}
    shares = [
        assign_micro_batches(rows, lengths, rank, world_size, micro_batch)
        for rank in range(world_size)
    ]
    assert sorted(row for share in shares for batch in share for row in batch) == sorted(rows)
    assert len({len(share) for share in shares}) == 1
    assert all(len(batch) <= micro_batch for share in shares for batch in share)


def test_a_step_needs_only_its_number():
    """A resumed process builds the plan anew and must see the same rows, later epochs included."""
    plan = BatchPlan(23, 5, seed=4)
    first = [plan.select_rows(step) for step in range(17)]
    assert [BatchPlan(23, 5, seed=4).select_rows(step) for step in reversed(range(17))] == first[
        ::-1
    ]
    assert plan.select_rows(0) != plan.select_rows(5)  # the second epoch is shuffled anew
    assert BatchPlan(23, 5, seed=5).select_rows(0) != plan.select_rows(0)


def test_micro_batches_hold_similar_lengths():
    """Rows are grouped by length: padding every row to the longest would waste most of a step."""
    lengths = [9, 1, 8, 2, 7, 3]
    assert assign_micro_batches(range(6), lengths, 0, 1, 2) == [[1, 3], [5, 4], [2, 0]]


@pytest.mark.parametrize(("epochs", "steps"), [(1, 3), (0.5, 2), (2, 6), (0.01, 1)])
def test_epochs_become_steps(epochs, steps):
    """Rounded up, and never no step at all."""
    assert BatchPlan(12, 5, 0).count_steps(epochs) == steps


def test_no_row_is_an_error():
    """An empty data set must not end as a finished training of 0 steps."""
    with pytest.raises(InputError, match="no row"):
        BatchPlan(0, 8, 0)
