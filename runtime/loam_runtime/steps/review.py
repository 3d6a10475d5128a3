"""The human spot check: a sample beside the run, a person's word, and the rows that stay by it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_api.review import SPOT_CHECK_FILE, SPOT_CHECK_PAGE, ReviewDecision, parse_decision
from loam_runtime.data.examples import Example, iterate_examples, to_dataset
from loam_runtime.data.export import read_json_lines, write_json_lines
from loam_runtime.data.tables import read_table, write_table
from loam_runtime.errors import AwaitsReviewError, InputError, StorageError
from loam_runtime.report.build import build_review_page
from loam_runtime.steps.data_card import write_data_card
from loam_runtime.steps.rows import RATIONALES_FILE, read_wrong_answers
from loam_runtime.storage.base import NotFoundError
from loam_runtime.synthesis.embeddings import embed_texts
from loam_runtime.synthesis.measures import measure_rows
from loam_runtime.synthesis.spot_check import draw_sample, remove_low_quality, remove_rejected
from loam_runtime.synthesis.verdict_file import list_texts, mark_id, show_score, write_sample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from loam_api.finetunejob import FineTuneJob
    from loam_runtime.observability.monitor import StageMonitor
    from loam_runtime.steps.context import JobContext
    from loam_runtime.storage.run_store import RunStore
    from loam_runtime.synthesis.filters.quality import QualityFilter

DECISION_FILE = "review/decision.json"
STAGE = "review"


def is_required(job: FineTuneJob) -> bool:
    """Whether the job waits for a person."""
    check = job.spec.synthesis.spot_check if job.spec.synthesis else None
    return check is not None and check.required


def offer_sample(
    context: JobContext, rows: Sequence[Example], scores: Mapping[str, float], out: Path
) -> None:
    """Leave the sample where a person finds it, if the job has one.

    A sample that is waited for lies beside the stage's own files, not among them: whoever fills it
    in where it lies changes nothing that a hash was taken of.
    """
    check = context.job.spec.synthesis.spot_check
    if check is None:
        return
    sample = draw_job_sample(context.job, rows, scores)
    page = _write_page(context, sample, scores, len(rows))
    for name, data in ((SPOT_CHECK_FILE, write_sample(sample, scores)), (SPOT_CHECK_PAGE, page)):
        if check.required:
            context.run.put(name, data)
        else:
            (out / name).write_bytes(data)


def draw_job_sample(
    job: FineTuneJob, rows: Sequence[Example], scores: Mapping[str, float]
) -> list[Example]:
    """The rows that a person is shown; none in a job without a spot check."""
    check = job.spec.synthesis.spot_check
    if check is None:
        return []
    return draw_sample(
        rows,
        scores,
        check.sample_size,
        is_classification=job.spec.data.task == "classification",
        random_seed=job.spec.training.seed,
    )


def _write_page(
    context: JobContext, sample: Sequence[Example], scores: Mapping[str, float], num_rows: int
) -> bytes:
    """The sample as a page to read, with what to do about it."""
    texts = list_texts(sample)
    page = build_review_page(
        {
            "job": context.job.metadata.name,
            "task": context.job.spec.data.task,
            "description": context.job.spec.data.description,
            "run_key": context.run_key,
            "num_rows": num_rows,
            "columns": [*(name.capitalize() for name in texts), "Score"],
            "rows": [
                {
                    "id": mark_id(row.id),
                    "cells": [*(getattr(row, name) for name in texts), show_score(row, scores)],
                }
                for row in sample
            ],
        }
    )
    return page.encode()


def record_decision(run: RunStore, text: str) -> None:
    """Keep with the run what the operator says was decided; nothing where it says nothing."""
    if text and not is_reviewed(run):
        if parse_decision(text) is None:
            raise InputError("LOAM_REVIEW is not a decision about synthetic rows.")
        run.put(DECISION_FILE, text.encode())


def is_reviewed(run: RunStore) -> bool:
    """Whether a decision about this run's rows has been carried out."""
    return run.exists(f"stages/{STAGE}.json")


def check_decision(context: JobContext) -> None:
    """See that a person has decided.

    Raises:
        AwaitsReviewError: nobody has.
    """
    if not context.run.exists(DECISION_FILE):
        name = context.job.metadata.name
        raise AwaitsReviewError(
            f"The job waits for a person: look at {context.run.uri}/{SPOT_CHECK_FILE}, or at "
            "the page beside it.",
            remedy=f"Then `loam approve JOB.yaml`, `loam reject JOB.yaml --rows ID,ID`, or fill in "
            f"the column verdict and `loam approve JOB.yaml --verdicts FILE.csv`; after that "
            f"the same command goes on ({name}).",
        )


def review_rows(
    context: JobContext,
    split: Path,
    synthetic: Path,
    report: Mapping[str, Any],
    out: Path,
    monitor: StageMonitor,
) -> dict[str, Any]:
    """Write the rows that stay, those that leave and the sample; return what was decided.

    Data card and report of the synthesis are made anew for the rows that stay. Where rows were
    rejected the quality classifier is fitted again with the verdicts as labels, and what it drops
    then leaves too. Who finds all rows good has not asked for fewer.

    Args:
        split, synthetic: folders of the stages before.
        report: of the synthesis.

    Raises:
        InputError: the set was refused, nothing of it is left, or rows are named that are not
            there.
    """
    decision = _read_decision(context.run)
    if decision.refuses_all:
        raise InputError(
            f"{decision.by or 'A person'} rejected the synthetic rows of this run.",
            remedy="Change synthesis or the seeds; or take it back: `loam approve JOB.yaml`.",
        )
    rows = list(iterate_examples(read_table(synthetic / "data" / "synthetic.parquet")))
    is_classification = context.job.spec.data.task == "classification"
    kept, removed = remove_rejected(
        rows, decision.rejected_rows, decision.good_rows, is_classification=is_classification
    )
    train = list(iterate_examples(read_table(split / "data" / "train.parquet")))
    classifier = _refit_classifier(context, train, synthetic, rows) if removed else None
    num_alike = len(removed) - len(decision.rejected_rows)
    if classifier:
        kept, low = remove_low_quality(kept, classifier, decision.good_rows)
        removed += low
    if not kept:
        raise InputError(
            f"The review left none of {len(rows)} synthetic rows.",
            remedy="Change synthesis or the seeds; or reject fewer rows.",
        )
    write_table(to_dataset(kept), out / "data" / "synthetic.parquet")
    records = [{"id": one.row.id, **one.to_record()} for one in removed]
    _write_removed(out, records)
    report = _update_report(context.job, report, kept, train)
    before = read_json_lines(synthetic / "rejected" / "synthetic.jsonl")
    card = write_data_card(context.job, len(train), report, [*before, *records])
    (out / "data" / "README.md").write_text(card, encoding="utf-8")
    if (synthetic / RATIONALES_FILE).exists():
        shutil.copy(synthetic / RATIONALES_FILE, out / RATIONALES_FILE)
    (out / SPOT_CHECK_FILE).write_bytes(context.run.get(SPOT_CHECK_FILE))
    monitor.log("reviewed", decision=decision.decision, by=decision.by, kept=len(kept))
    return {
        "decision": decision.model_dump(),
        "kept": len(kept),
        "rejected": len(decision.rejected_rows),
        "alike": num_alike,
        "low_quality": len(rows) - len(kept) - len(decision.rejected_rows) - num_alike,
        "classifier": classifier.describe() if classifier else {},
        "report": report,
    }


def _update_report(
    job: FineTuneJob, report: Mapping[str, Any], kept: Sequence[Example], train: Sequence[Example]
) -> dict[str, Any]:
    """The synthesis's report, now of the rows that stay; the review is one more filter in it."""
    seen = report["kept"]
    step = {"seen": seen, "passed": len(kept), "retention": len(kept) / seen}
    return {
        **report,
        "filters": {**report["filters"], STAGE: step},
        "kept": len(kept),
        "missing": report["wanted"] - len(kept),
        "measures": measure_rows(
            kept,
            train,
            is_classification=job.spec.data.task == "classification",
            embed=embed_texts,
            random_seed=job.spec.training.seed,
        ),
    }


def _refit_classifier(
    context: JobContext, train: Sequence[Example], synthetic: Path, rows: Sequence[Example]
) -> QualityFilter:
    """The quality classifier of the synthesis, with the verdicts as further labels."""
    from loam_runtime.synthesis.filters.quality import QualityFilter
    from loam_runtime.synthesis.filters.quality_rows import KnownRows

    spec, decision = context.job.spec, _read_decision(context.run)
    by_id = {row.id: row for row in rows}
    return QualityFilter(
        train,
        spec.synthesis.quality_threshold,
        is_classification=spec.data.task == "classification",
        random_seed=spec.training.seed,
        known=KnownRows(
            read_wrong_answers(synthetic),
            approved=[by_id[one] for one in decision.good_rows],
            rejected=[by_id[one] for one in decision.rejected_rows],
        ),
        database=context.sources.database if spec.synthesis.filters.structured.enabled else None,
    )


def _read_decision(run: RunStore) -> ReviewDecision:
    try:
        decision = parse_decision(run.get(DECISION_FILE))
    except NotFoundError as exc:
        raise StorageError(f"{DECISION_FILE} of this run is gone.") from exc
    if decision is None:
        raise InputError(
            f"{run.uri}/{DECISION_FILE} is not a decision.",
            remedy="Decide again with `loam approve` or `loam reject`.",
        )
    return decision


def _write_removed(out: Path, records: Sequence[Mapping[str, Any]]) -> None:
    path = out / "rejected" / "review.jsonl"
    path.parent.mkdir(parents=True)
    write_json_lines(records, path)
