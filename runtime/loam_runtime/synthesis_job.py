"""`loam synthesize`: the synthesis of a job alone, from seeds to filtered rows in a file.

It asks what `loam run` would ask, with the same journal: neither pays for what the other had
answered. The base model is read only where it is the teacher.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from loam_runtime.data.examples import iterate_examples
from loam_runtime.data.export import check_suffix, export_rows, write_json_lines
from loam_runtime.data.prompt import build_contract
from loam_runtime.errors import InputError
from loam_runtime.observability.progress import open_progress
from loam_runtime.observability.progress_monitor import ProgressMonitor
from loam_runtime.sources import Sources, fetch_data, fetch_sources
from loam_runtime.steps.context import InputContext
from loam_runtime.steps.data_card import write_data_card
from loam_runtime.steps.review import draw_job_sample
from loam_runtime.steps.rows import add_rationales
from loam_runtime.steps.split import load_splits
from loam_runtime.steps.synthesize import draw_rows, name_inputs
from loam_runtime.storage.local import translate_full_disk
from loam_runtime.synthesis.database import fetch_database
from loam_runtime.synthesis.verdict_file import write_sample

if TYPE_CHECKING:
    from datasets import Dataset

    from loam_api.finetunejob import FineTuneJob
    from loam_runtime.synthesis.stage import SynthesisResult

STAGE = "synthesize"


@dataclass(frozen=True, slots=True)
class SynthesisOutcome:
    """What `synthesize_job` left.

    Attributes:
        out: the rows. Beside it lie `<name>.rejected.jsonl`, `<name>.report.json`, the data card
            `<name>.README.md`, with a spot check in the job its sample `<name>.spot_check.csv`
            and, where rationales were bought for the training rows, these as `<name>.seeds` in
            its format.
        report: of the synthesis, see `SynthesisResult`.
        usage: requests and tokens of the teacher.
    """

    out: Path
    report: dict[str, Any]
    usage: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        return {"out": str(self.out), "report": self.report, "usage": self.usage}

    def describe(self) -> str:
        """The funnel for a person: what came, what each filter let through, what was kept."""
        report = self.report
        lines = [
            f"{report['draws']} answers, {report['rows']} rows in them, "
            f"{report['malformed']} malformed"
        ]
        for name, step in report["filters"].items():
            kept = f", {step['retention']:.0%}" if step["retention"] is not None else ""
            lines.append(f"{name:<14} {step['seen']:>7} -> {step['passed']:>7}{kept}")
            if step.get("note"):
                lines.append(f"{'':<14} {step['note']}")
        if explained := report.get("explained"):
            seen, passed = explained["rows"], explained["answered"]
            lines.append(f"{'explained':<14} {passed:>7} of {seen} training rows")
        lines.append(f"{'kept':<14} {report['kept']:>7} of {report['wanted']} wanted")
        lines.append(f"Rows: {self.out}")
        return "\n".join(lines)


def synthesize_job(job: FineTuneJob, base_dir: Path, out: Path) -> SynthesisOutcome:
    """Have the job's synthetic rows written and filtered, and leave them in a file.

    The same call after an interruption goes on: answers are journaled. The test and validation
    rows are set aside first, as in a run, and no synthetic row repeats one.

    Args:
        out: .jsonl or .parquet; replaced.

    Raises:
        InputError: no `synthesis` in the job, data that cannot be used, or another suffix.
        LoamError: what `synthesize` raises, and a full disk.
    """
    check_suffix(out)
    spec = job.spec
    if spec.synthesis is None:
        raise InputError(
            f"The job {job.metadata.name} has no block spec.synthesis.",
            remedy="Say in it how many rows are wanted: synthesis: {targetCount: 100}.",
        )
    context = InputContext(job, base_dir, _fetch(job, base_dir))
    _, splits = load_splits(spec, context.sources.data)
    is_self = spec.synthesis.teacher.kind == "self"
    tokenizer = context.tokenizer if is_self else None
    contract = build_contract(spec.data, splits.train["target"], tokenizer)
    sides = {"test": splits.test, "validation": splits.validation}
    held_out = name_inputs({side: table for side, table in sides.items() if table is not None})
    progress = open_progress((STAGE,))
    progress.start_stage(STAGE)
    started, state = monotonic(), "failed"
    try:
        monitor = ProgressMonitor(STAGE, progress)
        result = draw_rows(context, splits.train, contract, held_out, monitor)
        state = "done"
    finally:
        progress.end_stage(STAGE, state, monotonic() - started)
        progress.close()
    with translate_full_disk(out.parent):
        _write(result, splits.train, job, out)
    return SynthesisOutcome(out, result.report, result.usage)


def _fetch(job: FineTuneJob, base_dir: Path) -> Sources:
    """The inputs; without the model where a remote teacher writes."""
    if job.spec.synthesis.teacher.kind == "self":
        return fetch_sources(job.spec, base_dir)
    database = fetch_database(job.spec.synthesis.filters, base_dir)
    return Sources(Path(), fetch_data(job.spec, base_dir), {}, database)


def _write(result: SynthesisResult, train: Dataset, job: FineTuneJob, out: Path) -> None:
    """The rows last: whoever sees them finds the files beside them."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json_lines(result.rejected, out.with_name(f"{out.stem}.rejected.jsonl"))
    facts = {"report": result.report, "usage": result.usage}
    out.with_name(f"{out.stem}.report.json").write_text(
        json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    card = write_data_card(job, len(train), result.report, result.rejected)
    out.with_name(f"{out.stem}.README.md").write_text(card, encoding="utf-8")
    sample = draw_job_sample(job, list(iterate_examples(result.kept)), result.scores)
    if sample:
        data = write_sample(sample, result.scores)
        out.with_name(f"{out.stem}.spot_check.csv").write_bytes(data)
    tables = {out: result.kept}
    if result.rationales:
        explained = add_rationales(train, result.rationales)
        tables = {out.with_name(f"{out.stem}.seeds{out.suffix}"): explained, **tables}
    data = job.spec.data
    for path, table in tables.items():
        rows = list(iterate_examples(table))
        export_rows(rows, path, data.fields, is_classification=data.task == "classification")
