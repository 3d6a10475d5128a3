from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.unit.export.conftest import CPU, PROMPTS, train_adapter

from loam_runtime.errors import DivergenceError
from loam_runtime.export.errors import ExportError
from loam_runtime.export.verify import compute_mean_kl, compute_next_logits, verify_adapter
from loam_runtime.models.loading import load_base


@pytest.mark.parametrize("quantization", ["", "nf4"])
def test_a_good_adapter_reproduces_and_differs(base_folder, tmp_path, quantization):
    """The normal case, and its margins: reproduction far inside, change far outside the bounds."""
    trained = train_adapter(base_folder, tmp_path, quantization=quantization)
    logits = compute_next_logits(trained, PROMPTS)
    result = verify_adapter(
        tmp_path, base_folder, PROMPTS, logits, quantization=quantization, **CPU
    )
    assert result.reproduction_nats < 1e-9
    assert result.change_nats > 1e-3
    assert result.to_dict()["num_prompts"] == len(PROMPTS)


def test_an_adapter_trained_on_another_base_precision_is_refused(base_folder, tmp_path):
    """QLoRA corrects the rounding of its 4-bit base; on the original one it is another model."""
    logits = compute_next_logits(train_adapter(base_folder, tmp_path, quantization="nf4"), PROMPTS)
    with pytest.raises(ExportError, match="differs from the model that was trained"):
        verify_adapter(tmp_path, base_folder, PROMPTS, logits, **CPU)


def test_a_changed_weight_is_noticed(base_folder, tmp_path):
    """A tensor lost or mixed up while saving must stop the publication."""
    logits = compute_next_logits(train_adapter(base_folder, tmp_path), PROMPTS)
    edit_weights(tmp_path, lambda tensor: tensor * 0.5)
    with pytest.raises(ExportError, match="differs from the model that was trained"):
        verify_adapter(tmp_path, base_folder, PROMPTS, logits, **CPU)


def test_an_adapter_equal_to_its_base_is_refused(base_folder, tmp_path):
    """A run that learnt nothing must fail, not publish the base under a new name."""
    logits = compute_next_logits(train_adapter(base_folder, tmp_path, scale=0), PROMPTS)
    with pytest.raises(ExportError, match="changes nothing"):
        verify_adapter(tmp_path, base_folder, PROMPTS, logits, **CPU)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(base_folder, tmp_path, value):
    """NaN compares as neither equal nor different: it is looked for in every tensor."""
    logits = compute_next_logits(train_adapter(base_folder, tmp_path), PROMPTS)
    edit_weights(tmp_path, lambda tensor: tensor.index_fill(0, torch.tensor([0]), value))
    with pytest.raises(DivergenceError, match="not finite"):
        verify_adapter(tmp_path, base_folder, PROMPTS, logits, **CPU)


def test_nan_outputs_do_not_pass_as_equal(base_folder, tmp_path):
    """A comparison with NaN is false both ways; the check must fall on the safe side."""
    logits = compute_next_logits(train_adapter(base_folder, tmp_path), PROMPTS)
    with pytest.raises(ExportError):
        verify_adapter(tmp_path, base_folder, PROMPTS, logits * np.nan, **CPU)


def test_a_pickle_in_the_folder_is_refused(base_folder, tmp_path):
    """What was put into the folder after assembling is checked too."""
    logits = compute_next_logits(train_adapter(base_folder, tmp_path), PROMPTS)
    (tmp_path / "training_args.bin").write_bytes(b"x")
    with pytest.raises(ExportError, match=r"training_args\.bin"):
        verify_adapter(tmp_path, base_folder, PROMPTS, logits, **CPU)


def test_full_models_are_verified_against_their_base(base_folder, tmp_path):
    """Full fine-tuning has no adapter to switch off: base and result are two models."""
    model = load_base(base_folder, **CPU)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(1.5)
    model.save_pretrained(tmp_path)
    result = verify_adapter(
        tmp_path, base_folder, PROMPTS, compute_next_logits(model, PROMPTS), **CPU
    )
    assert result.reproduction_nats < 1e-9
    assert result.change_nats > 1e-5
    with pytest.raises(ExportError, match="changes nothing"):
        verify_adapter(
            base_folder,
            base_folder,
            PROMPTS,
            compute_next_logits(load_base(base_folder, **CPU), PROMPTS),
            **CPU,
        )


LOGITS = st.lists(st.floats(-30, 30), min_size=4, max_size=4)


@given(st.lists(LOGITS, min_size=1, max_size=3), st.floats(-100, 100))
def test_divergence_is_zero_for_equal_distributions_only(rows, shift):
    """Softmax ignores a constant: only a change that a user could see may count."""
    logits = np.array(rows)
    assert compute_mean_kl(logits, logits + shift) == pytest.approx(0, abs=1e-9)
    other = logits.copy()
    other[0, 0] += 5
    other[0, 1] -= 5
    assert compute_mean_kl(logits, other) >= -1e-15  # of rounding


def edit_weights(folder, edit):
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    name = next(name for name in sorted(weights) if "lora_B" in name)
    weights[name] = edit(weights[name]).contiguous()
    save_file(weights, path, metadata={"format": "pt"})
