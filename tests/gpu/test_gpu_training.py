"""On a GPU: the losses of the CPU, and a resume to the bit. Run by `make test-gpu`."""

from __future__ import annotations

import pytest
import torch
from tests.tools.tiny_models import build_tiny_model
from tests.tools.training_tools import fit, make_config, make_rows

from loam_runtime.training import loop
from loam_runtime.training.methods.registry import METHODS

ROWS, VALIDATION = make_rows(20), make_rows(5, seed=1)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("models") / "gemma3")


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 3e-2)])
def test_losses_are_those_of_the_cpu(method, precision, tolerance, model_folder, tmp_path):
    """The same rows, masks and scaling; only the order of sums may differ."""
    losses = [
        fit(
            make_config(method=method, precision=precision, device=device),
            model_folder,
            tmp_path / device,
            ROWS,
        ).losses
        for device in ("cpu", "cuda")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=tolerance)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_resume_is_bit_equal(method, model_folder, tmp_path):
    """An interrupt in step 3 changes nothing after it, dropout included."""
    config = make_config(method=method, dropout=0.3, precision="bf16", device="cuda")
    whole = fit(config, model_folder, tmp_path / "whole", ROWS, VALIDATION)

    def interrupt(event):
        if event["event"] == "step" and event["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(config, model_folder, tmp_path / "cut", ROWS, VALIDATION, on_event=interrupt)
    resumed = fit(config, model_folder, tmp_path / "cut", ROWS, VALIDATION)
    assert resumed.losses == whole.losses


def test_probe_survives_a_real_out_of_memory(model_folder, tmp_path):
    """The allocator's own error, in a process limited to a sliver of the device."""
    rows = make_rows(64, longest=500)
    torch.cuda.set_per_process_memory_fraction(64 * 2**20 / torch.cuda.mem_get_info()[1])
    try:
        config = make_config(micro_batch=64, global_batch=64, device="cuda", max_steps=2)
        assert loop._ends_with_an_error(torch.device("cuda"))
        result = fit(config, model_folder, tmp_path, rows)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= result.micro_batch < 64
