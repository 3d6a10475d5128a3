"""`loam synthesize`: rows in a file, from a manifest and a teacher alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.tools.fault_teacher import FaultTeacher, serve_script
from tests.tools.tiny_job import run_loam, write_examples, write_job, write_rows

from loam_runtime.data.examples import Example
from loam_runtime.data.export import export_rows
from loam_runtime.data.loading import load_examples
from loam_runtime.errors import InputError
from loam_runtime.manifest import load_manifest
from loam_runtime.synthesis.columns import describe_data
from loam_runtime.synthesis.verdict_file import list_ids
from loam_runtime.synthesis_job import synthesize_job


def write_teacher_job(folder: Path, teacher: FaultTeacher) -> Path:
    """A job whose base model is nowhere: a remote teacher does not need it."""
    openai = {"baseURL": teacher.base_url, "model": "scripted"}
    synthesis = {
        "targetCount": 12,
        "teacher": {"kind": "openai", "openai": openai},
        "spotCheck": {"sampleSize": 4},
    }
    return write_job(folder, synthesis=synthesis, model={"uri": "file://./nowhere"})


def test_from_seeds_to_rows(tmp_path: Path) -> None:
    """The command leaves the rows wanted, says the funnel, and asks nothing when given again;
    the next job may take its file as seeds."""
    with serve_script(write_examples) as teacher:
        manifest = write_teacher_job(tmp_path, teacher)
        out = tmp_path / "made" / "rows.jsonl"
        first = run_loam("synthesize", str(manifest), "-o", str(out), cache=tmp_path / "cache")
        assert first.returncode == 0, first.stderr
        num_requests = teacher.num_requests
        rows = out.read_bytes()
        again = run_loam(
            "synthesize", str(manifest), "-o", str(out), "--json", cache=tmp_path / "cache"
        )
    assert "kept                12 of 12 wanted" in first.stdout
    assert "nearDuplicates" in first.stdout
    told = json.loads(again.stdout)
    assert told["usage"]["requests"] == 0
    assert teacher.num_requests == num_requests
    assert out.read_bytes() == rows
    assert told["report"]["analysis"]["num_rows"] > 0
    data = load_manifest(manifest).spec.data
    read = load_examples([out], data).dataset
    assert sorted(read["target"]) == ["complaint"] * 6 + ["praise"] * 6
    report = json.loads((out.parent / "rows.report.json").read_text())
    assert report["report"] == told["report"]
    assert (out.parent / "rows.rejected.jsonl").exists()
    # Who has the rows alone is told of them, and has rows to look at.
    card = (out.parent / "rows.README.md").read_text()
    assert "12 rows, written by scripted" in card
    assert "| nearDuplicates |" in card
    assert len(list_ids((out.parent / "rows.spot_check.csv").read_bytes())) == 4


def test_jobs_on_two_machines_share_their_namespaces_answers(tmp_path: Path) -> None:
    """What one job of a namespace has paid for, another one on another disk does not pay again;
    the answers of another namespace are not its own."""
    place = (tmp_path / "answers").as_uri()
    with serve_script(write_examples) as teacher:
        manifest = str(write_teacher_job(tmp_path, teacher))
        counts = []
        for machine in ("a", "b"):
            done = run_loam(
                *("synthesize", manifest, "-o", str(tmp_path / f"{machine}.jsonl")),
                cache=tmp_path / machine,
                LOAM_TEACHER_CACHE=place,
            )
            assert done.returncode == 0, done.stderr
            counts.append(teacher.num_requests)
    assert counts[0] == counts[1] > 0
    assert [one.name for one in (tmp_path / "answers").iterdir()] == ["default"]


def test_refusals_come_first(tmp_path: Path) -> None:
    """An unknown ending, or a job without synthesis, costs no request."""
    with serve_script(write_examples) as teacher:
        job = load_manifest(write_teacher_job(tmp_path, teacher))
        with pytest.raises(InputError, match=r"\.parquet"):
            synthesize_job(job, tmp_path, tmp_path / "rows.txt")
        plain = load_manifest(write_job(tmp_path / "plain"))
        with pytest.raises(InputError, match="no block"):
            synthesize_job(plain, tmp_path / "plain", tmp_path / "rows.jsonl")
        assert teacher.num_requests == 0


def test_held_out_rows_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher that recites the test set fills no training file with it."""
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))
    write_rows(tmp_path / "test.jsonl", 30, seed=2)
    tests = [json.loads(line)["text"] for line in (tmp_path / "test.jsonl").open()]

    def recite(call):
        reply = write_examples(call)
        rows = json.loads(reply.text)
        rows[0]["input"] = tests[call.number % len(tests)]
        return type(reply)(json.dumps(rows))

    with serve_script(recite) as teacher:
        job = load_manifest(write_teacher_job(tmp_path, teacher))
        outcome = synthesize_job(job, tmp_path, tmp_path / "rows.parquet")
    from datasets import Dataset

    kept = Dataset.from_parquet(str(outcome.out), cache_dir=str(tmp_path / "cache"))
    assert len(kept) == 12
    assert not set(kept["text"]) & set(tests)
    assert outcome.report["filters"]["contamination"]["passed"] < outcome.report["rows"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("classification", Example("1", "text", "label")),
        ("generation", Example("1", "question?", "an answer\nof two lines")),
        ("generation", Example("1", "prompt", "good", rejected="bad")),
        ("text", Example("1", "", "plain text")),
        ("classification", Example("1", "text", "label", rationale="for it says so")),
        ("generation", Example("1", "2 + 2?", "4", rationale="two and two")),
    ],
)
def test_rows_are_read_back(tmp_path: Path, task: str, row: Example, suffix: str) -> None:
    """What is written in any task's format is the same row when read as seeds."""
    path = tmp_path / f"rows{suffix}"
    data = describe_data(task)
    export_rows([row], path, data.fields, is_classification=task == "classification")
    (read,) = load_examples([path], data).dataset
    names = ("input", "target", "rejected", "rationale")
    assert [read[name] for name in names] == [getattr(row, name) for name in names]
