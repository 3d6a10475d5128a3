"""In-context synthesis through the completions endpoint of a base model's server."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset
from tests.tools.fault_teacher import Call, Reply, serve_script

from loam_api.synthesis_block import OpenAITeacher
from loam_runtime.synthesis.completions_teacher import CompletionsTeacher
from loam_runtime.synthesis.exchange import TeacherRequest
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.pipeline import SyntheticPipeline

SEEDS = Dataset.from_list(
    [{"text": "a gripping film", "label": "good"}, {"text": "a dull film", "label": "bad"}]
)


def go_on(call: Call) -> Reply:
    """A base model: it goes on with the list, in the middle of a line."""
    return Reply(f" film number {call.number} was seen by {call.number * 7 + 3} people")


def test_the_list_alone_is_sent(tmp_path: Path) -> None:
    """A base model is told nothing: the prompt ends where the next item begins, the paper's
    sampling goes with it, and a line end stops it."""
    with serve_script(go_on) as server:
        teacher = CompletionsTeacher("base", server.base_url, "k")
        pipeline = SyntheticPipeline(teacher, strategy="inContext", journal_dir=tmp_path)
        made = pipeline.generate(SEEDS, 6)
    assert sorted(row.target for row in made) == ["bad"] * 3 + ["good"] * 3
    assert all(row.input.startswith("film number") for row in made)
    for body in server.bodies:
        assert "messages" not in body
        assert body["prompt"].endswith("\n-")
        assert (body["temperature"], body["top_k"], body["stop"]) == (1.0, 50, ["\n"])


def test_answers_of_the_endpoints_are_two(tmp_path: Path) -> None:
    """The journal must not give a chat model's answer for a base model's of the same name."""
    request = TeacherRequest(messages=(("user", "a"),), max_tokens=4)
    keys = {
        request.compute_key(teacher.model, teacher.endpoint)
        for teacher in (
            kind("m", "http://127.0.0.1:1/v1", "k")
            for kind in (OpenAICompatibleTeacher, CompletionsTeacher)
        )
    }
    assert len(keys) == 2


def test_batches_are_for_chat() -> None:
    """Provider batches ask the chat endpoint; the other is refused with the way out."""
    with pytest.raises(ValueError, match="endpoint must be chat"):
        OpenAITeacher(baseURL="http://a/v1", model="m", mode="batch", endpoint="completions")
