"""Models and adapters loaded for training, and again for everything after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.tools.tiny_models import build_tiny_model

from loam_runtime.errors import InputError
from loam_runtime.models.language_model import LanguageModel
from loam_runtime.models.loading import (
    load_adapted,
    load_base,
    load_published,
    load_tokenizer,
    resolve_device,
    resolve_precision,
)

IDS = torch.tensor([[2, 40, 50, 60, 70, 80, 90, 1]])


def add_adapter(model: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    return get_peft_model(model, LoraConfig(r=4, lora_alpha=16, target_modules="all-linear"))


def train_steps(model: torch.nn.Module, count: int) -> list[float]:
    """Losses of a few optimizer steps."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-2)
    model.train()
    losses = []
    for _ in range(count):
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def compute_logits(model: torch.nn.Module) -> torch.Tensor:
    model.eval()
    with torch.inference_mode():
        return model(input_ids=IDS).logits.clone()


@pytest.mark.parametrize("quantization", ["", "nf4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_reloaded_adapter_gives_the_trained_logits_bit_for_bit(
    tiny_folder: Path, tmp_path: Path, quantization: str, dtype: torch.dtype
) -> None:
    """What is served is what was trained.

    Prevents a reload that prepares the quantized base otherwise than training did (logits were
    off by up to 0.89), and adapters that are cast down.
    """
    options = {"device": "cpu", "dtype": dtype, "quantization": quantization}
    base = load_base(tiny_folder, **options)
    before = compute_logits(base)
    model = add_adapter(base)
    train_steps(model, 3)
    trained = compute_logits(model)
    model.save_pretrained(tmp_path / "adapter")
    for load in (load_adapted, load_published):
        loaded = compute_logits(load(tiny_folder, tmp_path / "adapter", **options))
        assert torch.equal(loaded, trained)
    assert not torch.equal(trained, before)


@pytest.mark.parametrize("quantization", ["", "nf4"])
def test_evaluating_first_leaves_training_as_it_is(tiny_folder: Path, quantization: str) -> None:
    """Baselines are measured before training, validation in its midst: neither shows in a loss."""
    options = {"device": "cpu", "dtype": torch.float32, "quantization": quantization}
    alone = train_steps(add_adapter(load_base(tiny_folder, **options)), 4)
    model = add_adapter(load_base(tiny_folder, **options))
    lm = LanguageModel(model, load_tokenizer(tiny_folder))
    lm.score([[2, 40, 50]], [[60, 1]])
    losses = train_steps(model, 2)
    # One optimizer for all steps would continue; a new one starts both halves alike.
    lm.generate([[2, 40, 50]], max_new_tokens=3, temperature=1.0)
    assert losses == alone[:2]
    assert all(torch.isfinite(torch.tensor(train_steps(model, 2))))


def test_quantized_weights_are_never_repacked(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU of another machine does not change what a forward leaves behind.

    bitsandbytes repacks 4-bit weights in place where the CPU has AVX512-BF16, in evaluation
    mode; a training step that follows reads them as if they were not.
    """
    import bitsandbytes.nn.modules as bnb_modules

    def refuse(*arguments: object) -> None:
        raise AssertionError("weights were repacked")

    monkeypatch.setattr(bnb_modules, "has_avx512bf16", lambda: True)
    monkeypatch.setattr(bnb_modules, "_convert_weight_packed_for_cpu", refuse)
    model = load_base(tiny_folder, device="cpu", dtype=torch.float32, quantization="nf4")
    linear = next(m for m in model.modules() if isinstance(m, bnb_modules.Linear4bit))
    before = linear.weight.data.clone()
    compute_logits(model)
    assert torch.equal(linear.weight.data, before)


def test_the_quantized_base_is_4_bit_and_frozen(tiny_folder: Path) -> None:
    """QLoRA trains the adapter alone, on 4-bit weights."""
    from bitsandbytes.nn import Linear4bit

    model = load_base(tiny_folder, device="cpu", dtype=torch.float32, quantization="nf4")
    linears = [m for m in model.modules() if isinstance(m, Linear4bit)]
    assert len(linears) == 4 * 7
    assert all(m.weight.quant_state.quant_type == "nf4" for m in linears)
    assert all(m.weight.quant_state.nested for m in linears)
    assert not any(p.requires_grad for p in model.parameters())


def test_a_whole_model_is_loaded_in_place_of_an_adapter(tiny_folder: Path, tmp_path: Path) -> None:
    """Full fine-tuning publishes a model, not an adapter; the base must not be served for it."""
    other = build_tiny_model(tmp_path / "full", seed=1)
    options = {"device": "cpu", "dtype": torch.float32}
    served = compute_logits(load_published(tiny_folder, other, **options))
    assert torch.equal(served, compute_logits(load_base(other, **options)))


def test_an_adapter_of_another_model_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    """An adapter whose modules the base lacks ends in a message that names both."""
    model = add_adapter(load_base(tiny_folder, device="cpu", dtype=torch.float32))
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    config["target_modules"] = ["no_such_projection"]
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="cannot be put on the model"):
        load_adapted(tiny_folder, tmp_path, device="cpu", dtype=torch.float32)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(InputError, match="cannot be loaded"):
        load_base(tmp_path, device="cpu", dtype=torch.float32)
    with pytest.raises(InputError, match=r"tokenizer in .* cannot be loaded"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_padding_pads_with_its_end(tiny_folder: Path, tmp_path: Path) -> None:
    """Llama's tokenizer has no padding token; batches need one."""
    tokenizer = load_tokenizer(tiny_folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).pad_token_id == tokenizer.eos_token_id


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no GPU"):
        resolve_device("cuda")
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("has_it", [True, False])
def test_auto_precision_follows_the_cpu(monkeypatch: pytest.MonkeyPatch, has_it: bool) -> None:
    """bfloat16 that is emulated is slower than float32, and no more exact."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_it})
    assert resolve_precision("auto", "cpu") == (torch.bfloat16 if has_it else torch.float32)
    assert resolve_precision("bf16", "cpu") == torch.bfloat16
    assert resolve_precision("fp32", "cpu") == torch.float32
