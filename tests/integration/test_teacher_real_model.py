"""Synthesis with a real model behind a real OpenAI-compatible server."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset

from loam_runtime.synthesis.completions_teacher import CompletionsTeacher
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.pipeline import SyntheticPipeline
from loam_runtime.synthesis.strategies.base import SamplingSettings

REVIEWS = {
    "positive": [
        "a warm and funny film",
        "the best acting of the year",
        "a joy from start to finish",
        "beautiful, clever and moving",
    ],
    "negative": [
        "a dull and lifeless film",
        "the worst script of the year",
        "boring from start to finish",
        "ugly, stupid and loud",
    ],
}


@pytest.mark.parametrize("kind", [OpenAICompatibleTeacher, CompletionsTeacher])
def test_reviews_from_a_real_model(
    kind: type[OpenAICompatibleTeacher], teacher_server: str, tmp_path: Path
) -> None:
    """A real endpoint's responses, usage and stopping are understood, whether it chats or
    continues a text: rows of both classes come back, and a second call is answered from the
    journal."""
    seeds = Dataset.from_list(
        [{"text": text, "label": label} for label, texts in REVIEWS.items() for text in texts]
    )
    teacher = kind("gemma", teacher_server, concurrency=4)
    pipeline = SyntheticPipeline(
        teacher,
        strategy="inContext",
        sampling=SamplingSettings(max_tokens=24),
        journal_dir=tmp_path,
    )
    made = pipeline.generate(seeds, 6, task_description="Short film reviews.")
    assert sorted(row.target for row in made) == ["negative"] * 3 + ["positive"] * 3
    assert all(row.input.strip() and "\n" not in row.input for row in made)
    assert made.usage["completion_tokens"] > 0
    again = pipeline.generate(seeds, 6, task_description="Short film reviews.")
    assert list(again) == list(made)
    assert again.usage["requests"] == 0
