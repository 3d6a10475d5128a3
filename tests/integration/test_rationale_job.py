"""A job with rationales, from the teacher to the rows that the workers read."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tools.any_teacher import write_any_rows
from tests.tools.fault_teacher import serve_script
from tests.tools.tiny_job import write_job

from loam_runtime.data.examples import to_dataset
from loam_runtime.data.loading import load_examples
from loam_runtime.errors import InputError
from loam_runtime.manifest import load_manifest
from loam_runtime.sources import Sources
from loam_runtime.steps.context import JobContext
from loam_runtime.steps.rows import JobTables, build_job_contract
from loam_runtime.steps.train import _write_rows
from loam_runtime.synthesis_job import synthesize_job
from loam_runtime.training.rows import group_examples, read_encoded


def make_context(folder: Path, base_url: str, **training: str) -> JobContext:
    synthesis = {
        "strategy": "rationale",
        "targetCount": 10,
        "qualityThreshold": 0,
        "sampling": {"maxTokens": 1024},
        "teacher": {"kind": "openai", "openai": {"baseURL": base_url, "model": "scripted"}},
    }
    manifest = write_job(folder, synthesis=synthesis, training=training)
    sources = Sources(folder / "model", {}, {})
    return JobContext(load_manifest(manifest), folder, sources, None, "", folder)


def test_what_is_bought_is_taught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthetic rows carry their rationales into training, where each counts as part of its
    example; validation sees answers alone, and so does the ablation's other arm."""
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))
    with serve_script(write_any_rows) as teacher:
        context = make_context(tmp_path, teacher.base_url)
        made = synthesize_job(context.job, tmp_path, tmp_path / "rows.jsonl")
        plain = make_context(tmp_path, teacher.base_url, rationale="none")
    data = context.job.spec.data
    seeds = load_examples([tmp_path / "seeds.jsonl"], data).dataset
    synthetic = load_examples([made.out], data).dataset
    assert all(text.startswith("Two times") for text in synthetic["rationale"])
    tables = JobTables(seeds, synthetic, synthetic, None)
    contract = build_job_contract(context, tables)
    for one, num_rationales in ((context, len(synthetic)), (plain, 0)):
        counts = _write_rows(one, contract, tables, 0)
        assert counts == {"train": len(seeds) + len(synthetic), "validation": len(synthetic)}
        rows = read_encoded(tmp_path / "rows" / "train.arrow")
        assert len(group_examples(rows)) == counts["train"]
        assert len(rows) == counts["train"] + num_rationales
        assert not any(read_encoded(tmp_path / "rows" / "validation.arrow").rationale_flags)


def test_nothing_to_explain(tmp_path: Path) -> None:
    """Asked for rationales, rows without any are no plain run in silence."""
    context = make_context(tmp_path, "http://127.0.0.1:1/v1", rationale="multiTask")
    seeds = load_examples([tmp_path / "seeds.jsonl"], context.job.spec.data).dataset
    tables = JobTables(seeds, None, to_dataset([]), None)
    with pytest.raises(InputError, match="no training row has one"):
        _write_rows(context, build_job_contract(context, tables), tables, 0)
