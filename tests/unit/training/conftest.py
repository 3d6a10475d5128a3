"""Tiny models shared by the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.tools.tiny_models import build_tiny_model


@pytest.fixture(autouse=True)
def _use_one_thread():
    """Small matrices gain nothing from threads, and summation order stays fixed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def gemma_folder(tmp_path_factory) -> Path:
    """Tied embeddings, sliding windows."""
    return build_tiny_model(tmp_path_factory.mktemp("models") / "gemma3", kind="gemma3")


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory) -> Path:
    """An output layer of its own."""
    return build_tiny_model(tmp_path_factory.mktemp("models") / "llama", kind="llama")
