"""Rows that a model calls harmful, over HTTP, with journal and budget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.integration.test_teacher_pipeline import make_train, run_stage, write_complaints
from tests.tools.fault_teacher import Call, Reply, serve_script

from loam_runtime.data.examples import to_dataset
from loam_runtime.errors import InputError
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.pipeline import SyntheticPipeline

ON = {"consistency": {"enabled": False}, "unsafe": {"enabled": True}}
TEACHER = {"kind": "openai", "openai": {"base_url": "http://h/v1", "model": "m"}}


def is_about_harm(question: str) -> bool:
    return "Could the example do harm?" in question


def read_example(question: str) -> list[str]:
    return json.loads(question.rpartition("\n\n")[2])


def write_threats(call: Call) -> Reply:
    """Writes threats among its complaints, and knows one when it reads it."""
    if is_about_harm(call.question):
        text = read_example(call.question)[0]
        if "mumble" in text:
            return Reply("I would rather not say.")
        return Reply(json.dumps({"label": "violence" if "hurt you" in text else "safe"}))
    rows = json.loads(write_complaints(call).text)
    rows[1]["input"] += " or I hurt you"
    if len(rows) > 2:
        rows[2]["input"] += " mumble"
    return Reply(json.dumps(rows))


def test_no_harmful_row_is_kept(tmp_path: Path) -> None:
    """What the model calls harmful leaves with the kind of harm, what it does not call safe leaves
    too, the set is filled up with safe rows, and the second start asks nothing again."""
    with serve_script(write_threats) as server:
        result = run_stage(server, tmp_path, filters=ON, teacher=TEACHER)
        asked = server.num_requests
        run_stage(server, tmp_path, filters=ON, teacher=TEACHER)
        assert server.num_requests == asked
    assert len(result.kept) == 20
    assert not any("hurt you" in text or "mumble" in text for text in result.kept["input"])
    reasons = {one["reason"] for one in result.rejected if one["filter"] == "unsafe"}
    assert reasons == {"unsafe: violence", "whether it is unsafe was not said"}
    told = result.report["filters"]["unsafe"]
    assert (told["trusted"], told["seeds_measured"], told["seeds_unsafe"]) == (True, 12, 0)
    assert "found 0 of 12 seeds unsafe" in told["note"]


def see_harm_everywhere(call: Call) -> Reply:
    if is_about_harm(call.question):
        return Reply(json.dumps({"label": "danger"}))
    return write_complaints(call)


def test_a_model_that_finds_the_seeds_unsafe_drops_nothing(tmp_path: Path) -> None:
    """A task about harmful texts, or a judge that sees harm everywhere, would empty the set; what
    the seeds are is what rows may be. A job that would rather fail than that says so."""
    with serve_script(see_harm_everywhere) as server:
        result = run_stage(server, tmp_path, filters=ON, teacher=TEACHER)
        strict = {"filters": ON, "teacher": TEACHER, "on_untrusted_filter": "fail"}
        with pytest.raises(InputError, match="12 of 12 seeds unsafe"):
            run_stage(server, tmp_path / "strict", **strict)
    assert len(result.kept) == 20
    assert result.report["filters"]["unsafe"]["trusted"] is False


def test_the_judge_is_asked_where_one_is_named(tmp_path: Path) -> None:
    """A guard model judges better than who wrote the rows, and both see every text of a row."""
    with serve_script(write_threats) as server, serve_script(write_threats) as guard:
        pipeline = SyntheticPipeline(
            OpenAICompatibleTeacher("m", server.base_url, "k"),
            judge_model=OpenAICompatibleTeacher("guard", guard.base_url, "k"),
            quality_threshold=0.0,
            filters=ON,
            journal_dir=tmp_path,
        )
        made = pipeline.generate(to_dataset(make_train()), 20)
        kept = pipeline.filter(made)
    assert any("hurt you" in row.input for row in made)
    assert not any("hurt you" in row.input for row in kept)
    questions = [body["messages"][-1]["content"] for body in guard.bodies]
    assert all(map(is_about_harm, questions))
    assert not any(is_about_harm(str(body["messages"])) for body in server.bodies)
    shown = [read_example(question) for question in questions]
    assert all([row.input, row.target] in shown for row in kept)
