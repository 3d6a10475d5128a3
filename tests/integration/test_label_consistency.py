"""Label consistency of a remote teacher, over HTTP, with journal and budget."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.integration.test_teacher_pipeline import run_stage, write_complaints
from tests.tools.fault_teacher import Call, Reply, serve_script

from loam_runtime.errors import InputError
from loam_runtime.synthesis.pipeline import SyntheticPipeline

ON = {"consistency": {"enabled": True}}
LABELS = ("billing", "delivery")


def is_judgement(question: str) -> bool:
    return "Which class" in question


def tell_class(text: str) -> str:
    """What the scripted judge says of a text."""
    return LABELS["parcel" in text or "delivery" in text]


def answer_with_errors(call: Call) -> Reply:
    """Writes rows of which every first is of the other class; knows a class when it reads it."""
    if is_judgement(call.question):
        text = re.findall(r"^Text: (.*)$", call.question, re.MULTILINE)[-1]
        return Reply(json.dumps({"label": tell_class(text)}))
    reply = write_complaints(call)
    rows = json.loads(reply.text)
    label = re.search(r'of the class "(\w+)"', call.question)[1]
    other = LABELS[label == "billing"]
    rows[1]["input"] = rows[1]["input"].replace(label, other)
    return Reply(json.dumps(rows))


def count_wrong(result) -> int:
    pairs = zip(result.kept["input"], result.kept["target"], strict=True)
    return sum(label != tell_class(text) for text, label in pairs)


def test_wrong_labels_are_found_by_asking(tmp_path: Path) -> None:
    """A remote teacher's mistaken rows leave the set, the set is filled up with right ones, and
    the second start pays for no question again."""
    with serve_script(answer_with_errors) as server:
        result = run_stage(server, tmp_path, filters=ON)
        asked = server.num_requests
        again = run_stage(server, tmp_path, filters=ON)
        assert server.num_requests == asked
        judged = [body for body in server.bodies if is_judgement(str(body["messages"]))]
    assert count_wrong(result) == 0
    assert len(result.kept) == 20
    assert again.kept.to_dict() == result.kept.to_dict()
    funnel = result.report["filters"]["consistency"]
    assert funnel["trusted"] is True
    assert (
        0 < funnel["seen"] - funnel["passed"] == round((1 - funnel["agreement"]) * funnel["seen"])
    )
    assert result.usage["spent_requests"] == asked
    schema = judged[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["label"]["enum"] == list(LABELS)


def test_without_schemas(tmp_path: Path) -> None:
    """An endpoint that knows no schema judges all the same."""

    def refuse_forms(call: Call) -> Reply:
        if "response_format" in call.body:
            return Reply("unknown field response_format", status=400)
        return answer_with_errors(call)

    with serve_script(refuse_forms) as server:
        assert count_wrong(run_stage(server, tmp_path, filters=ON)) == 0


def test_budget_stops_questions_about_rows(tmp_path: Path) -> None:
    """Judging is paid from the same budget and never passes it; rows that it did not reach stay,
    and the report counts them."""
    with serve_script(answer_with_errors) as server:
        result = run_stage(server, tmp_path, filters=ON, budget={"max_requests": 40})
        assert server.num_requests <= 40
    assert 10 <= len(result.kept) <= 20
    funnel = result.report["filters"]["consistency"]
    assert funnel["unjudged"] > 0
    assert "were not asked about" in funnel["note"]


def test_untrusted_teacher_fails_before_it_writes(tmp_path: Path) -> None:
    """With onUntrustedFilter fail, a teacher that cannot tell the classes writes no row."""

    def guess(call: Call) -> Reply:
        return Reply('{"label": "billing"}') if is_judgement(call.question) else Reply(status=500)

    with serve_script(guess) as server, pytest.raises(InputError, match="of 10 seeds"):
        run_stage(server, tmp_path, filters=ON, on_untrusted_filter="fail")


def test_filter_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`filter` of the library asks too, adds what it cost, and asks nothing when called again."""
    from datasets import Dataset

    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))
    seeds = [
        {"text": f"{text} number {number} of the week", "label": label}
        for label, text in zip(LABELS, ("invoice", "parcel"), strict=True)
        for number in range(6)
    ]
    with serve_script(answer_with_errors) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        pipeline = SyntheticPipeline("m", quality_threshold=0.0, journal_dir=tmp_path / "journal")
        made = pipeline.generate(Dataset.from_list(seeds), 20, "Complaints")
        written = server.num_requests
        kept = pipeline.filter(made)
        asked = server.num_requests
        assert written == made.usage["requests"]
        assert asked == kept.usage["requests"] > written
        assert len(pipeline.filter(made)) == len(kept)
        assert server.num_requests == asked
    assert any(row.target not in row.input for row in made)
    # The row about the weather says neither class, and may be of either.
    assert all(row.target in row.input for row in kept if "weather" not in row.input)
