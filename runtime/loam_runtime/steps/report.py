"""Write the report, the data behind it, and the model card with its figures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_runtime.data.examples import iterate_examples
from loam_runtime.data.export import read_json_lines
from loam_runtime.export.card import CardFacts, render_card
from loam_runtime.export.manifest import collect_versions
from loam_runtime.report.build import build_report
from loam_runtime.steps.lineage import read_base
from loam_runtime.steps.predictions import NO_TEST, read_predictions
from loam_runtime.steps.report_data import MODEL_NAMES, Outputs, build_report_data
from loam_runtime.steps.report_judge import describe_judge
from loam_runtime.steps.report_review import read_spot_check
from loam_runtime.steps.rows import JobTables, read_tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loam_runtime.observability.monitor import StageMonitor
    from loam_runtime.stages import StageOutput, StageRunner
    from loam_runtime.steps.context import JobContext


@dataclass(frozen=True, slots=True)
class RunOutputs:
    """What each stage left; `synthesis`, `review` and `judge` are None in a job without one."""

    split: StageOutput
    synthesis: StageOutput | None
    review: StageOutput | None
    plan: StageOutput
    baselines: StageOutput
    training: StageOutput
    evaluation: StageOutput
    judge: StageOutput | None

    @classmethod
    def collect(cls, outputs: Mapping[str, StageOutput]) -> RunOutputs:
        """From the stages' outputs by name."""
        return cls(
            split=outputs["split"],
            synthesis=outputs.get("synthesize"),
            review=outputs.get("review"),
            plan=outputs["plan"],
            baselines=outputs["baselines"],
            training=outputs["train"],
            evaluation=outputs["evaluate"],
            judge=outputs.get("judge"),
        )

    @property
    def rows(self) -> StageOutput | None:
        """The stage that left the synthetic rows which were trained on."""
        return self.review or self.synthesis


def write_report(
    context: JobContext, stages: StageRunner, out: Path, monitor: StageMonitor
) -> dict[str, Any]:
    """Write `report.html`, `report.json` and the adapter's `README.md`."""
    job, run = context.job, RunOutputs.collect(stages.outputs)
    inputs, base = (
        run.training.result["lineage"]["inputs"],
        read_base(run.training.result["lineage"]),
    )
    tables = read_tables(run.split.folder, run.rows.folder if run.rows else None)
    lineage = {
        "base model's licence": str(base.license),
        **{f"{role} SHA-256": digest for role, digest in inputs.items()},
        **{f"{name} version": version for name, version in collect_versions().items()},
        "seed": str(job.spec.training.seed),
    }
    data = build_report_data(
        job, context.run_key, collect_outputs(run, tables), stages.seconds, lineage
    )
    (out / "report.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    (out / "report.html").write_text(build_report(data), encoding="utf-8")
    (out / "adapter").mkdir()
    card = render_card(describe_card(context, run))
    (out / "adapter" / "README.md").write_text(card, encoding="utf-8")
    verdict = data["verdict"] or {"text": NO_TEST, "is_assessable": False}
    monitor.log("verdict", text=verdict["text"])
    return {"verdict": verdict}


def collect_outputs(run: RunOutputs, tables: JobTables) -> Outputs:
    """The stages' results with the rows and answers that belong to them."""
    names = [(run.baselines, record["name"]) for record in run.baselines.result["models"]]
    names += [(run.evaluation, record["name"]) for record in run.evaluation.result["models"]]
    rejected = run.synthesis.folder / "rejected" / "synthetic.jsonl" if run.synthesis else None
    predictions = {name: read_predictions(stage.folder, name) for stage, name in names}
    test = iterate_examples(tables.test) if tables.test is not None else ()
    inputs = {row.id: row.input or row.target for row in test}
    return Outputs(
        split=run.split.result,
        synthesis=_describe_synthesis(run),
        plan=run.plan.result,
        baselines=run.baselines.result,
        training=run.training.result,
        evaluation=run.evaluation.result,
        inputs=inputs,
        predictions=predictions,
        kept=[
            {"input": row.input, "target": row.target, "reason": ""}
            for row in (iterate_examples(tables.synthetic) if tables.synthetic is not None else ())
        ],
        rejected=[
            *_read_lines(rejected),
            *_read_lines(run.review.folder / "rejected" / "review.jsonl" if run.review else None),
        ],
        spot_check=read_spot_check(run.synthesis, run.review),
        judge=describe_judge(run.judge, inputs, predictions, MODEL_NAMES),
        judge_usage=run.judge.result["usage"] if run.judge else {},
        bad_rows=_read_lines(run.split.folder / "rejected" / "seeds.jsonl"),
    )


def _describe_synthesis(run: RunOutputs) -> dict[str, Any] | None:
    """The synthesis's result; after a review the report is of the rows that stayed."""
    if run.synthesis is None:
        return None
    source = run.review or run.synthesis
    return {**run.synthesis.result, "report": source.result["report"]}


def describe_card(context: JobContext, run: RunOutputs) -> CardFacts:
    """What the model card tells of this run."""
    spec = context.job.spec
    models = [*run.evaluation.result["models"], *run.baselines.result["models"]]
    verdict = run.evaluation.result["verdict"]
    judged = [run.judge.result["text"]] if run.judge else []
    rows = run.training.result["numRows"]
    teacher = ""
    if spec.synthesis:
        remote = spec.synthesis.teacher.openai
        teacher = remote.model if remote else "the base model itself"
    return CardFacts(
        name=context.job.metadata.name,
        base=read_base(run.training.result["lineage"]),
        task=spec.data.task,
        method=run.plan.result["method"],
        verdict=" ".join([verdict["text"] if verdict else NO_TEST, *judged]),
        num_seed_rows=rows["real"],
        description=spec.data.description,
        labels=tuple(run.split.result["labels"]),
        metrics=tuple(
            {"name": MODEL_NAMES.get(model["name"], model["name"]), "values": model["metrics"]}
            for model in models
        ),
        num_test_rows=models[0]["numRows"] if models else 0,
        num_synthetic_rows=rows["synthetic"],
        teacher=teacher,
    )


def _read_lines(path: Path | None) -> list[dict[str, Any]]:
    return read_json_lines(path) if path is not None and path.exists() else []
