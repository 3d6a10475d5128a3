"""The memory probe finds what fits, and the run cannot tell that it was probed."""

from __future__ import annotations

import pytest
import torch
from tests.tools.training_tools import fit, make_config, make_rows

from loam_runtime.errors import OutOfMemoryError
from loam_runtime.training import loop
from loam_runtime.training.distributed import Distributed
from loam_runtime.training.engine import Engine
from loam_runtime.training.methods.registry import METHODS
from loam_runtime.training.objective import SupervisedObjective
from loam_runtime.training.probe import fit_micro_batch

ROWS = make_rows(20)
LENGTHS = [len(row.input_ids) for row in ROWS]
ALONE = Distributed(torch.device("cpu"))


@pytest.fixture
def limit_memory(monkeypatch):
    """A device that holds the activations of so many tokens, padding included."""

    def limit(num_tokens):
        compute_hidden = SupervisedObjective._compute_hidden

        def compute_within_limit(self, input_ids, mask):
            if input_ids.numel() > num_tokens:
                raise torch.OutOfMemoryError("out of memory")
            return compute_hidden(self, input_ids, mask)

        monkeypatch.setattr(SupervisedObjective, "_compute_hidden", compute_within_limit)

    return limit


@pytest.fixture
def engine(gemma_folder):
    config = make_config(method="full")
    model = METHODS["full"].build(gemma_folder, config, torch.device("cpu"))
    return Engine(SupervisedObjective(model), config, ALONE)


@pytest.mark.parametrize(("num_rows_fit", "expected"), [(8, 8), (7, 4), (3, 2), (1, 1)])
def test_micro_batch_is_halved_until_it_fits(num_rows_fit, expected, engine, limit_memory):
    """Judged by the longest rows: the first batch of an epoch may be a short one, and a run must
    not die at the first long one hours later."""
    limit_memory(num_rows_fit * max(LENGTHS))
    assert fit_micro_batch(engine, ROWS, LENGTHS, 8, ALONE) == expected


def test_row_that_never_fits_names_its_length(engine, limit_memory):
    """Exit code 14 and what to do, in place of a stack trace of the allocator."""
    limit_memory(max(LENGTHS) - 1)
    with pytest.raises(OutOfMemoryError, match=f"One row of {max(LENGTHS)} tokens"):
        fit_micro_batch(engine, ROWS, LENGTHS, 8, ALONE)


def test_probe_leaves_no_trace(engine):
    """Weights, moments and gradients are as before it."""
    before = {name: tensor.clone() for name, tensor in engine.tensors.items()}
    fit_micro_batch(engine, ROWS, LENGTHS, 8, ALONE)
    assert all(torch.equal(before[name], tensor) for name, tensor in engine.tensors.items())
    assert all(parameter.grad is None for parameter in engine.parameters.values())


def test_smaller_micro_batch_trains_the_same(gemma_folder, tmp_path, limit_memory, monkeypatch):
    """A run on a smaller device has the same batches and losses, and says what it used."""
    plain = fit(make_config(micro_batch=8), gemma_folder, tmp_path / "plain", ROWS)
    limit_memory(3 * max(LENGTHS))
    monkeypatch.setattr(loop, "_ends_with_an_error", lambda device: True)
    probed = fit(make_config(micro_batch=8), gemma_folder, tmp_path / "probed", ROWS)
    assert (plain.micro_batch, probed.micro_batch) == (8, 2)
    assert probed.losses == pytest.approx(plain.losses, abs=1e-4)


def test_memory_lost_during_training_is_reported(gemma_folder, tmp_path, limit_memory):
    """Another process may take the memory that the probe has seen."""
    limit_memory(max(LENGTHS))
    with pytest.raises(OutOfMemoryError, match="microBatch"):
        fit(make_config(), gemma_folder, tmp_path, ROWS)
