"""What the synthesis tests share."""

from __future__ import annotations

import pytest

from loam_runtime.data.examples import Example, compute_example_id
from loam_runtime.synthesis.strategies.base import TaskBrief

TOPICS = {
    "billing": ("the invoice shows the wrong amount", "I was charged twice this month"),
    "delivery": ("my parcel has not arrived yet", "the courier left it at the wrong door"),
}


def make_example(input_text: str, target: str, **rest) -> Example:
    return Example(compute_example_id(input_text, target), input_text, target, **rest)


@pytest.fixture
def seeds() -> list[Example]:
    """Eight rows of two classes."""
    return [
        make_example(f"{text}, order {number}", label)
        for label, texts in TOPICS.items()
        for text in texts
        for number in (11, 22)
    ]


@pytest.fixture
def brief(seeds: list[Example]) -> TaskBrief:
    return TaskBrief(seeds=tuple(seeds), is_classification=True, description="Sort complaints.")
