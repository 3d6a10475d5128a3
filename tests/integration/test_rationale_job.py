"""A job with rationales, from the teacher to the rows that the workers read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.tools.any_teacher import write_any_rows
from tests.tools.fault_teacher import serve_script
from tests.tools.tiny_job import find_run, run_loam, write_job

from loam_api.review import SPOT_CHECK_FILE, ReviewDecision
from loam_runtime.data.examples import to_dataset
from loam_runtime.data.loading import load_examples
from loam_runtime.data.tables import write_table
from loam_runtime.errors import InputError
from loam_runtime.export.manifest import verify_manifest
from loam_runtime.manifest import load_manifest
from loam_runtime.observability.monitor import NullMonitor
from loam_runtime.pipeline import open_run
from loam_runtime.sources import Sources
from loam_runtime.steps.context import JobContext
from loam_runtime.steps.review import DECISION_FILE, review_rows
from loam_runtime.steps.rows import JobTables, build_job_contract, read_tables, write_rationales
from loam_runtime.steps.train import _write_rows
from loam_runtime.synthesis_job import synthesize_job
from loam_runtime.training.rows import group_examples, read_encoded

pytestmark = pytest.mark.usefixtures("without_ray")


def describe_synthesis(base_url: str) -> dict[str, object]:
    return {
        "strategy": "rationale",
        "targetCount": 10,
        "qualityThreshold": 0,
        "sampling": {"maxTokens": 1024},
        "teacher": {"kind": "openai", "openai": {"baseURL": base_url, "model": "scripted"}},
    }


def make_context(folder: Path, base_url: str, **training: str) -> JobContext:
    manifest = write_job(folder, synthesis=describe_synthesis(base_url), training=training)
    sources = Sources(folder / "model", {}, {})
    return JobContext(load_manifest(manifest), folder, sources, None, "", folder)


def test_what_is_bought_is_taught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthetic rows and the seeds carry their rationales into training, where each counts as part
    of its example; validation sees answers alone, and so does the ablation's other arm."""
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))
    with serve_script(write_any_rows) as teacher:
        context = make_context(tmp_path, teacher.base_url)
        made = synthesize_job(context.job, tmp_path, tmp_path / "rows.jsonl")
        plain = make_context(tmp_path, teacher.base_url, rationale="none")
    data = context.job.spec.data
    seeds = load_examples([tmp_path / "rows.seeds.jsonl"], data).dataset
    assert all(text.startswith("So it is") for text in seeds["rationale"])
    assert made.report["explained"]["answered"] == len(seeds) > 10
    synthetic = load_examples([made.out], data).dataset
    assert all(text.startswith("Two times") for text in synthetic["rationale"])
    tables = JobTables(seeds, synthetic, synthetic, None)
    contract = build_job_contract(context, tables)
    for one, num_rationales in ((context, len(seeds) + len(synthetic)), (plain, 0)):
        counts = _write_rows(one, contract, tables, 0)
        assert counts == {
            "train": len(seeds) + len(synthetic),
            "real": len(seeds),
            "synthetic": len(synthetic),
            "validation": len(synthetic),
            "dropped": 0,
            "truncated": 0,
        }
        rows = read_encoded(tmp_path / "rows" / "train.arrow")
        assert len(group_examples(rows)) == counts["train"]
        assert len(rows) == counts["train"] + num_rationales
        assert not any(read_encoded(tmp_path / "rows" / "validation.arrow").rationale_flags)


@pytest.mark.parametrize("form", ["multiTask", "prefix"])
def test_nothing_to_explain(tmp_path: Path, form: str) -> None:
    """Asked for rationales, rows without any are no plain run in silence."""
    context = make_context(tmp_path, "http://127.0.0.1:1/v1", rationale=form)
    seeds = load_examples([tmp_path / "seeds.jsonl"], context.job.spec.data).dataset
    tables = JobTables(seeds, None, to_dataset([]), None)
    with pytest.raises(InputError, match="no training row has one"):
        _write_rows(context, build_job_contract(context, tables), tables, 0)


def test_review_keeps_the_rationales(tmp_path: Path) -> None:
    """A person's word on the synthetic rows takes no rationale from the real ones: what is trained
    on is read from behind the review."""
    context = make_context(tmp_path, "http://127.0.0.1:1/v1")
    context.run = open_run(context.job, tmp_path, "a" * 16)
    context.run.acquire("default/tiny", 1)
    context.run.put(SPOT_CHECK_FILE, b"id\n")
    context.run.put(DECISION_FILE, ReviewDecision(decision="approved").model_dump_json().encode())
    seeds = load_examples([tmp_path / "seeds.jsonl"], context.job.spec.data).dataset
    split, synthetic, out = (tmp_path / name for name in ("split", "synthetic", "out"))
    for folder in (split, synthetic, out):
        (folder / "data").mkdir(parents=True)
    write_table(seeds, split / "data" / "train.parquet")
    write_table(seeds, synthetic / "data" / "synthetic.parquet")
    write_rationales({seeds["id"][0]: "for so it is"}, synthetic)
    (synthetic / "rejected").mkdir()
    (synthetic / "rejected" / "synthetic.jsonl").touch()
    counts = {"wanted": len(seeds), "kept": len(seeds), "rows": len(seeds), "malformed": 0}
    report = {**counts, "filters": {}, "stopped": ""}
    review_rows(context, split, synthetic, report, out, NullMonitor())
    assert list(filter(None, read_tables(split, out).train["rationale"])) == ["for so it is"]


def run_arm(folder: Path, base_url: str, form: str, cache: Path) -> Path:
    """A whole job with one word of the switch; the folder of its run."""
    training = {"method": "lora", "learningRate": 0.01, "epochs": 2, "globalBatch": 8}
    manifest = write_job(
        folder,
        synthesis=describe_synthesis(base_url),
        training={**training, "rationale": form, "checkpoint": {"everySeconds": 0}},
        evaluation={"baselines": ["majority"], "maxNewTokens": 4},
    )
    done = run_loam("run", str(manifest), cache=cache)
    assert done.returncode == 0, done.stderr
    return find_run(folder)


def read_stage(run: Path, stage: str) -> dict:
    return json.loads((run / "stages" / f"{stage}.json").read_text())["result"]


def test_ablation_of_whole_jobs(tmp_path: Path) -> None:
    """One word tells the arms apart: they train on the same rows for the same steps, all but the
    first pay their teacher nothing, and each comes to an adapter that is measured and published.
    Else the paper's comparison would compare data sets."""
    with serve_script(write_any_rows) as teacher:
        runs = [run_arm(tmp_path / "auto", teacher.base_url, "auto", tmp_path / "cache")]
        num_requests = teacher.num_requests
        for form in ("prefix", "none"):
            runs.append(run_arm(tmp_path / form, teacher.base_url, form, tmp_path / "cache"))
        assert teacher.num_requests == num_requests
    rows = [read_tables(run, run) for run in runs]
    assert len({tuple(tables.synthetic["input"]) for tables in rows}) == 1
    explained = [sum(map(bool, tables.train["rationale"])) for tables in rows]
    assert explained == [len(rows[0].train)] * 2 + [0]
    trained = [read_stage(run, "train") for run in runs]
    assert len({json.dumps(one["numRows"]) for one in trained}) == 1
    assert len({one["config"]["max_steps"] for one in trained}) == 1
    supervised = [one["training"]["num_supervised_tokens"] for one in trained]
    assert min(supervised[:2]) > 2 * supervised[2]
    room = [json.loads((run / "adapter" / "loam_prompt.json").read_text()) for run in runs]
    assert [one["rationale_tokens"] > 0 for one in room] == [False, True, False]
    for run in runs:
        verify_manifest(run)
        assert (run / "adapter" / "adapter_model.safetensors").exists()
    adapters = [(run / "adapter" / "adapter_model.safetensors").read_bytes() for run in runs]
    assert len(set(adapters)) == 3
    note = "Rationales were written for"
    assert [note in (run / "report.html").read_text() for run in runs] == [True, True, False]
