"""A tiny model and a small labelled table."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from tests.tools.tiny_models import build_tiny_model

from loam_runtime.data.examples import Example, to_dataset
from loam_runtime.data.prompt import PromptContract
from loam_runtime.models.language_model import LanguageModel
from loam_runtime.models.loading import load_base, load_tokenizer


@pytest.fixture(scope="session")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = build_tiny_model(tmp_path_factory.mktemp("tiny"))
    return LanguageModel(
        load_base(folder, device="cpu", dtype=torch.float32), load_tokenizer(folder)
    )


def build_contract(task: str = "classification") -> PromptContract:
    labels = ("good", "bad", "other") if task == "classification" else ()
    return PromptContract(
        task=task,
        system="",
        prompt="" if task == "text" else "{description}\n\nText: {input}\nLabel:",
        description="Say how it is.",
        labels=labels,
        verbalizers={label: label for label in labels},
        use_chat_template=False,
    )


def build_rows(
    count: int, prefix: str = "row", targets: tuple[str, ...] = ("good", "bad")
) -> Dataset:
    return to_dataset(
        Example(
            id=f"{prefix}-{i}",
            input=f"{prefix} {'very ' * (i % 4)}{i}",
            target=targets[i % len(targets)],
        )
        for i in range(count)
    )
