"""A job that waits for a person, by the commands a user types, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.tools.fault_teacher import serve_script
from tests.tools.tiny_job import find_run, run_loam, write_examples, write_job

from loam_runtime.data.tables import read_table
from loam_runtime.export.manifest import verify_manifest
from loam_runtime.synthesis.verdict_file import list_ids

pytestmark = pytest.mark.usefixtures("without_ray")

AWAITS_REVIEW = 16


def write_reviewed_job(folder: Path, base_url: str) -> str:
    openai = {"baseURL": base_url, "model": "scripted"}
    synthesis = {
        "targetCount": 10,
        "teacher": {"kind": "openai", "openai": openai},
        "spotCheck": {"sampleSize": 6, "required": True},
    }
    return str(write_job(folder, synthesis=synthesis, evaluation={"baselines": ["majority"]}))


@pytest.fixture
def waiting(tmp_path: Path) -> str:
    """Manifest of a job that waits for its reviewer; its teacher is gone."""
    with serve_script(write_examples) as teacher:
        manifest = write_reviewed_job(tmp_path, teacher.base_url)
        done = run_loam("run", manifest, cache=tmp_path / "cache")
    assert done.returncode == AWAITS_REVIEW, done.stderr
    assert "Waiting: The job waits for a person" in done.stderr
    assert "loam approve" in done.stderr
    return manifest


def test_a_job_waits_and_goes_on_without_the_rejected_rows(waiting: str, tmp_path: Path):
    """The whole way: nothing is trained before the word, and what was refused is not trained on."""
    run, cache = find_run(tmp_path), tmp_path / "cache"
    assert not (run / "checkpoints").exists()
    sample = run / "data" / "spot_check.csv"
    ids = list_ids(sample.read_bytes())
    assert len(ids) == 6
    page = (run / "data" / "spot_check.html").read_text()
    assert all(f"<code>row-{one}</code>" in page for one in ids)
    unknown = run_loam("reject", waiting, "--rows", "nothing", cache=cache)
    assert unknown.returncode == 10
    assert "no such row" in unknown.stderr
    # Filled in where it lies, as people do.
    lines = sample.read_bytes().decode("utf-8-sig").splitlines()
    lines = [f"{line[:-2]},bad,wrong" if ids[0] in line else line for line in lines]
    sample.write_text("\r\n".join(lines), encoding="utf-8-sig")
    said = run_loam(
        "approve", waiting, "--verdicts", str(sample), "--by", "anna", "--json", cache=cache
    )
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["rejected_rows"] == [ids[0]]
    done = run_loam("run", waiting, cache=cache)
    assert done.returncode == 0, done.stderr
    trained_on = read_table(run / "data" / "synthetic.parquet")["id"]
    assert ids[0] not in trained_on
    removed = [json.loads(line) for line in (run / "rejected" / "review.jsonl").open()]
    assert ids[0] in [one["id"] for one in removed]
    assert len(trained_on) + len(removed) == 10
    check = json.loads((run / "report.json").read_text())["synthesis"]["spot_check"]
    assert (check["by"], check["num_rejected"]) == ("anna", 1)
    # What is published with the rows is told of these, not of those that left.
    assert f"{len(trained_on)} rows, written by" in (run / "data" / "README.md").read_text()
    funnel = json.loads((run / "report.json").read_text())["synthesis"]["funnel"]
    assert [funnel[-1][it] for it in ("name", "seen", "passed")] == ["review", 10, len(trained_on)]
    # Of 24 seeds the classifier is advisory: it learns, and takes no row.
    assert "It is advisory and dropped no row." in check["classifier_note"]
    assert "fitted again" in (run / "report.html").read_text()
    review = json.loads((run / "stages" / "review.json").read_text())["result"]
    assert "rejected by a person" in review["classifier"]["auc_by_fault"]
    verify_manifest(run)
    late = run_loam("approve", waiting, cache=cache)
    assert late.returncode == 10
    assert "reviewed before" in late.stderr


def test_a_refused_set_is_not_trained_on(waiting: str, tmp_path: Path):
    """Rejecting without naming rows refuses all; a slip of the hand can be taken back."""
    cache = tmp_path / "cache"
    assert run_loam("reject", waiting, "--by", "anna", cache=cache).returncode == 0
    refused = run_loam("run", waiting, cache=cache)
    assert refused.returncode == 10
    assert "anna rejected the synthetic rows" in refused.stderr
    taken_back = run_loam("approve", waiting, cache=cache)
    assert taken_back.returncode == 0
    assert taken_back.stdout.startswith("Approved by ")
