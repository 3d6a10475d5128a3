"""Tiny models of random weights, loaded once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.tools.tiny_models import build_tiny_model

from loam_runtime.models.language_model import LanguageModel
from loam_runtime.models.loading import load_base, load_tokenizer


@pytest.fixture(scope="session", params=["gemma3", "llama"])
def any_tiny_folder(request: pytest.FixtureRequest, tmp_path_factory) -> Path:
    """A Gemma 3 with sliding windows of 16 tokens, and a Llama without."""
    return build_tiny_model(tmp_path_factory.mktemp(request.param), kind=request.param)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


def load_language_model(folder: Path) -> LanguageModel:
    model = load_base(folder, device="cpu", dtype=torch.float32)
    return LanguageModel(model, load_tokenizer(folder))


@pytest.fixture(scope="session")
def any_lm(any_tiny_folder: Path) -> LanguageModel:
    return load_language_model(any_tiny_folder)


@pytest.fixture(scope="session")
def lm(tiny_folder: Path) -> LanguageModel:
    return load_language_model(tiny_folder)
