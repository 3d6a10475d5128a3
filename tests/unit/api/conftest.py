"""A small valid manifest to bend."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def manifest() -> dict[str, Any]:
    """The shortest manifest with synthesis, fresh for each test."""
    return {
        "apiVersion": "loam.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "intents"},
        "spec": {
            "model": {"uri": "file://model"},
            "data": {"seeds": {"uri": "file://seeds.jsonl"}, "task": "classification"},
            "synthesis": {"targetCount": 100},
            "output": {"uri": "file://out"},
        },
    }
