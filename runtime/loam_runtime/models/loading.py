"""Base models and adapters loaded one way, for synthesis, training, evaluation and export alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from loam_runtime.errors import InputError
from loam_runtime.models.facts import read_model_facts
from loam_runtime.models.folder import prepare_model_folder

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "Quantization",
    "load_adapted",
    "load_base",
    "load_published",
    "load_tokenizer",
    "prepare_model_folder",
    "read_model_facts",
    "resolve_device",
    "resolve_precision",
]

Quantization = Literal["", "nf4"]


def resolve_device(device: Literal["auto", "cpu", "cuda"]) -> str:
    """The device to compute on; auto takes the GPU where there is one.

    Raises:
        InputError: a GPU is asked for and there is none.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise InputError(
            "compute.device is cuda, but no GPU is visible here.",
            remedy="Set compute.device to auto or cpu, or run where a GPU is.",
        )
    return "cuda" if has_gpu and device != "cpu" else "cpu"


def resolve_precision(precision: Literal["auto", "bf16", "fp32"], device: str) -> torch.dtype:
    """The dtype to compute in; auto takes bfloat16 where the hardware multiplies it.

    A CPU without AVX512-BF16 or AMX emulates bfloat16: a forward of the 270 M model took four
    times as long there as in float32.
    """
    import torch

    if precision == "auto":
        precision = "bf16" if _multiplies_bfloat16(device) else "fp32"
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]


def _multiplies_bfloat16(device: str) -> bool:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model or adapter folder, with a padding token.

    Raises:
        InputError: transformers cannot load it.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as exc:
        raise InputError(
            f"The tokenizer in {folder} cannot be loaded: {_say(exc)}.",
            remedy="Save it again with the model's save_pretrained.",
        ) from exc
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(
    folder: Path, *, device: str, dtype: torch.dtype, quantization: Quantization = ""
) -> PreTrainedModel:
    """The base model of a prepared folder, in evaluation mode.

    Args:
        device: "cpu", "cuda" or "cuda:<n>".
        dtype: of the weights, or under nf4 of the computation.
        quantization: "nf4" is 4-bit NormalFloat with double quantization (QLoRA). The rest of
            such a model is float32 and frozen, in training and in every later load alike: an
            adapter gives its trained outputs only on a base prepared as in training.

    Raises:
        InputError: transformers cannot load it.
    """
    from transformers import AutoModelForCausalLM

    options = {"dtype": dtype, "attn_implementation": "sdpa", "device_map": {"": device}}
    if quantization:
        options["quantization_config"] = _build_nf4_config(dtype)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError, KeyError) as exc:
        raise InputError(
            f"The model in {folder} cannot be loaded: {_say(exc)}.",
            remedy="It must be a causal language model that transformers knows without own code.",
        ) from exc
    return _prepare_nf4(model) if quantization else model.eval()


def load_adapted(
    folder: Path,
    adapter: Path,
    *,
    device: str,
    dtype: torch.dtype,
    quantization: Quantization = "",
) -> PeftModel:
    """The base model of `folder` with the PEFT adapter at `adapter` on it, frozen, for use.

    Raises:
        InputError: the base or the adapter cannot be loaded.
    """
    from peft import PeftModel

    model = load_base(folder, device=device, dtype=dtype, quantization=quantization)
    try:
        return PeftModel.from_pretrained(model, adapter, is_trainable=False).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as exc:
        raise InputError(
            f"The adapter in {adapter} cannot be put on the model in {folder}: {_say(exc)}.",
            remedy="Use the base model that the adapter was trained on.",
        ) from exc


def load_published(
    folder: Path,
    published: Path,
    *,
    device: str,
    dtype: torch.dtype,
    quantization: Quantization = "",
) -> PreTrainedModel | PeftModel:
    """What a run published: an adapter on the base model of `folder`, or a whole model.

    Raises:
        InputError: it cannot be loaded.
    """
    load = {"device": device, "dtype": dtype, "quantization": quantization}
    if (published / "adapter_config.json").is_file():
        return load_adapted(folder, published, **load)
    return load_base(published, **load)


def _say(exc: Exception) -> str:
    """What a library says of a failure, to stand before a full stop."""
    return str(exc).strip().rstrip(".")


def _build_nf4_config(dtype: torch.dtype):
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _prepare_nf4(model: PreTrainedModel) -> PreTrainedModel:
    from bitsandbytes.nn import Linear4bit
    from peft import prepare_model_for_kbit_training

    for module in model.modules():
        if isinstance(module, Linear4bit):
            # On CPUs with AVX512-BF16 a forward in evaluation mode repacks the weights in
            # place, and no training step can follow (bitsandbytes 0.50).
            module.support_avx512bf16_for_cpu = False
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False).eval()
