from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.tools.tiny_models import build_tiny_model

from loam_runtime.data.prompt import PromptContract
from loam_runtime.export.adapter import BaseModel
from loam_runtime.export.licenses import License
from loam_runtime.models.loading import load_base, load_tokenizer

CPU = {"device": "cpu", "dtype": torch.float32}
PROMPTS = ([2, 40, 50, 60], [2, 70, 80], [2, 90, 100, 110, 120])


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("base"), kind="llama", chat_template=True)


@pytest.fixture(scope="session")
def tokenizer(base_folder):
    return load_tokenizer(base_folder)


@pytest.fixture
def base():
    return BaseModel(
        "hf://org/tiny", "v2", "ab" * 32, "fp32", License("apache-2.0", "its README.md")
    )


@pytest.fixture
def contract():
    return PromptContract(
        task="classification",
        system="",
        prompt="Text: {input}\nLabel:",
        description="Sort.",
        labels=("bad", "good"),
        verbalizers={"bad": "bad", "good": "good"},
        use_chat_template=False,
    )


def train_adapter(base_folder, destination, *, scale=0.05, quantization="", seed=1):
    """A LoRA adapter with random weights, as if trained; returns the trained model."""
    model = load_base(base_folder, quantization=quantization, **CPU)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "o_proj"])
    model = get_peft_model(model, config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=scale) if scale else parameter.zero_()
    model.save_pretrained(destination)
    return model.eval()
