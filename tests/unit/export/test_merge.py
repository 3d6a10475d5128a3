from __future__ import annotations

import pytest
from safetensors.torch import load_file
from tests.unit.export.conftest import CPU, PROMPTS, train_adapter

from loam_runtime.errors import DivergenceError
from loam_runtime.export.errors import ExportError
from loam_runtime.export.merge import MERGED_DTYPE, merge_adapter
from loam_runtime.export.verify import compute_next_logits, verify_merged


@pytest.mark.parametrize("quantization", ["", "nf4"])
def test_merged_model_says_what_the_trained_one_said(base_folder, tmp_path, quantization):
    """The merge rounds to 16 bits and does nothing else; the bound is on the KL divergence."""
    trained = train_adapter(base_folder, tmp_path / "adapter", quantization=quantization)
    logits = compute_next_logits(trained, PROMPTS)
    merge_adapter(
        base_folder,
        tmp_path / "adapter",
        tmp_path / "merged",
        device="cpu",
        quantization=quantization,
    )
    divergence = verify_merged(tmp_path / "merged", PROMPTS, logits, **CPU)
    assert divergence < 2e-3
    weights = load_file(tmp_path / "merged" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {MERGED_DTYPE}


def test_merging_a_4_bit_adapter_onto_the_original_base_is_noticed(base_folder, tmp_path):
    """The usual mistake with QLoRA: it loads, it answers, and it is not the model measured."""
    trained = train_adapter(base_folder, tmp_path / "adapter", quantization="nf4")
    logits = compute_next_logits(trained, PROMPTS)
    merge_adapter(base_folder, tmp_path / "adapter", tmp_path / "merged", device="cpu")
    with pytest.raises(ExportError, match="merged model"):
        verify_merged(tmp_path / "merged", PROMPTS, logits, **CPU)


def test_a_merge_that_overflows_is_refused(base_folder, tmp_path):
    """Weights of infinity would be published as a model that answers nothing."""
    train_adapter(base_folder, tmp_path / "adapter", scale=1e38)
    with pytest.raises(DivergenceError, match="not finite"):
        merge_adapter(base_folder, tmp_path / "adapter", tmp_path / "merged", device="cpu")
