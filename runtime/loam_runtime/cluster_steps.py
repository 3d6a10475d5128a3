"""What the head pod does in each step of a job in a cluster; the operator decides on the steps.

prepare: read, split, ask a remote teacher, and find out what training needs; without workers.
generate: let the base model write rows that a person reviews, on the workers.
train: all the rest, on the workers; in a job with a judge of answers, to the evaluation.
finish: let that judge compare answers, report and publish; without workers, model and torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_api.endpoints import list_endpoints, needs_finish
from loam_api.exits import ExitCode
from loam_api.planning.choices import GIVEN
from loam_api.planning.method import find_sure_choice
from loam_api.planning.worker_memory import estimate_worker_memory
from loam_api.ports import METRICS_PORT
from loam_api.progress_document import ResultDocument
from loam_api.status import MAX_MESSAGE_LENGTH, Metrics
from loam_runtime.errors import LoamError
from loam_runtime.pipeline import (
    STAGES,
    RunOutcome,
    Try,
    build_context,
    find_outcome,
    finish_stages,
    identify_run,
    lead_run,
    open_run,
    quiet_libraries,
    run_stages,
    take_lock,
)
from loam_runtime.remote import PipelineTask, run_on_worker
from loam_runtime.sources import Sources, fetch_sources
from loam_runtime.steps.review import is_reviewed, record_decision
from loam_runtime.steps.spending import add_spending
from loam_runtime.storage.registry import resolve_uri
from loam_runtime.training.run_address import RunAddress

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJob, FineTuneJobSpec
    from loam_api.planning.facts import Facts
    from loam_runtime.observability.progress import Progress
    from loam_runtime.stages import StageRunner
    from loam_runtime.steps.context import JobContext
    from loam_runtime.storage.run_store import RunStore

_METRICS = ("0.0.0.0", METRICS_PORT)  # Prometheus asks from another pod


def prepare(job: FineTuneJob, base_dir: Path, this_try: Try, progress: Progress) -> ResultDocument:
    """Everything that needs no worker; a run that was published before ends the job here.

    Raises:
        LoamError: any failure that a user can meet.
    """
    quiet_libraries()
    sources = fetch_sources(job.spec, base_dir)
    run_key = identify_run(job, sources)
    run = open_run(job, base_dir, run_key)
    outcome = find_outcome(job, base_dir, run_key)
    if outcome is not None:
        return describe_run(job.spec, run, run_key, outcome)
    with lead_run(run, job, this_try, progress, _METRICS) as monitor:
        outcome = find_outcome(job, base_dir, run_key)
        if outcome is not None:  # another job made it while its lock was waited for
            return describe_run(job.spec, run, run_key, outcome)
        context = build_context(job, base_dir, sources, run, run_key)
        stages = run_stages(context, monitor, _find_last_prepared(job.spec))
        facts = _measure_facts(context, stages)
    usage = _get_usage(stages.results.get("synthesize"))
    method, reason = _find_method(job.spec, facts)
    rows = ", ".join(f"{count} {side}" for side, count in stages.results["split"]["rows"].items())
    return ResultDocument(
        exit_code=int(ExitCode.DONE),
        message=f"Prepared: {rows} rows.",
        run_key=run_key,
        cost=describe_cost(job.spec, usage.get("spent_cost")),
        **_count_questions(usage),
        is_reviewed=is_reviewed(run),
        worker_memory_bytes=estimate_worker_memory(facts, job.spec),
        method=method,
        method_reason=reason[:MAX_MESSAGE_LENGTH],
    )


def _get_usage(made: dict[str, Any] | None) -> dict[str, float]:
    """Of the teacher, in all starts of the run (`spent_*`); empty where none was asked."""
    return dict(made["usage"]) if made else {}


def _count_questions(usage: dict[str, float]) -> dict[str, int]:
    """The fields of a `ResultDocument` that say what the teacher was asked for."""
    return {f"teacher_{it}": int(usage.get(f"spent_{it}", 0)) for it in ("requests", "tokens")}


def _find_method(spec: FineTuneJobSpec, facts: Facts) -> tuple[str, str]:
    """The method and why, as far as they are sure before the workers' devices are seen."""
    if spec.training.method != "auto":
        return spec.training.method, GIVEN
    choice = find_sure_choice(facts.data.num_real_rows)
    return (choice.method, choice.reason) if choice else ("", "")


def describe_cost(spec: FineTuneJobSpec, cost: float | None) -> str:
    """What the models that were asked have cost, with the currency of list prices; "" if unknown.

    A job's own prices are of one currency, whose name nobody has said.
    """
    if cost is None:
        return ""
    is_own_currency = any(one.openai.prices for one in list_endpoints(spec))
    return f"{cost:.2f}" if is_own_currency else f"{cost:.2f} USD"


def _find_last_prepared(spec: FineTuneJobSpec) -> str:
    """A remote teacher writes while no GPU is held; the base model writes on a worker."""
    is_remote = spec.synthesis is not None and spec.synthesis.teacher.kind != "self"
    return "synthesize" if is_remote else "split"


def _measure_facts(context: JobContext, stages: StageRunner) -> Facts:
    from loam_runtime.steps.plan import measure_facts
    from loam_runtime.steps.rows import read_tables

    written = stages.outputs.get("synthesize")
    synthetic = written.folder if written else None
    return measure_facts(context, read_tables(stages.outputs["split"].folder, synthetic))


def use_workers(
    job: FineTuneJob,
    base_dir: Path,
    this_try: Try,
    progress: Progress,
    *,
    step: str,
    run_key: str,
    micro_batch_divisor: int,
    review: str = "",
) -> ResultDocument:
    """The steps `generate` and `train`: lead the pipeline on the workers.

    Args:
        run_key: as the step `prepare` found it.
        review: what a person decided about the synthetic rows; "" where nobody was asked.

    Raises:
        LoamError: any failure that a user can meet.
    """
    if not run_key:
        raise LoamError(f"The step {step} was started without the run that it belongs to.")
    run = open_run(job, base_dir, run_key)
    outcome = find_outcome(job, base_dir, run_key)
    is_last = step == "train" and not needs_finish(job.spec)
    if outcome is None:
        last_stage = STAGES[-1] if is_last else "evaluate" if step == "train" else "synthesize"

        def build_task() -> PipelineTask:
            take_lock(run, job, this_try)
            return PipelineTask(
                job,
                base_dir,
                RunAddress(resolve_uri(job.spec.output.uri, base_dir), run_key, run.token),
                num_pods=job.spec.compute.workers.max,
                micro_batch_divisor=micro_batch_divisor,
                last_stage=last_stage,
            )

        with lead_run(run, job, this_try, progress, _METRICS) as monitor:
            record_decision(run, review)
            run_on_worker(build_task, monitor)
        if step != "train":
            return ResultDocument(exit_code=int(ExitCode.DONE), run_key=run_key)
        if not is_last:
            return describe_training(job.spec, run, run_key)
        outcome = find_outcome(job, base_dir, run_key)
    assert outcome is not None
    return describe_run(job.spec, run, run_key, outcome)


def finish(
    job: FineTuneJob, base_dir: Path, this_try: Try, progress: Progress, *, run_key: str
) -> ResultDocument:
    """Everything behind the evaluation, on the head pod alone.

    Neither the model nor the data are fetched: what the report says of them is in the run.

    Args:
        run_key: as the step `prepare` found it.

    Raises:
        LoamError: any failure that a user can meet; an adapter that is trained stays.
    """
    if not run_key:
        raise LoamError("The step finish was started without the run that it belongs to.")
    quiet_libraries()
    run = open_run(job, base_dir, run_key)
    outcome = find_outcome(job, base_dir, run_key)
    if outcome is None:
        with lead_run(run, job, this_try, progress, _METRICS) as monitor:
            context = build_context(job, base_dir, Sources(Path(), {}, {}), run, run_key)
            finish_stages(context, monitor)
        outcome = find_outcome(job, base_dir, run_key)
    assert outcome is not None
    return describe_run(job.spec, run, run_key, outcome)


def describe_run(
    spec: FineTuneJobSpec, run: RunStore, run_key: str, outcome: RunOutcome
) -> ResultDocument:
    """What the operator shows of a published run."""
    texts = [part["text"] for part in (outcome.run["verdict"], outcome.run["judge"]) if part]
    trained = describe_training(spec, run, run_key)
    told = {"message": " ".join(texts)[:MAX_MESSAGE_LENGTH], "is_published": True}
    return trained.model_copy(update=told)


def describe_training(spec: FineTuneJobSpec, run: RunStore, run_key: str) -> ResultDocument:
    """What the operator shows of a run whose adapter is trained and measured."""
    plan, after = _read_result(run, "plan"), _read_result(run, "evaluate")
    usage = _sum_usage(spec, run)
    verdict = after.get("verdict") or {}
    return ResultDocument(
        exit_code=int(ExitCode.DONE),
        message=str(verdict.get("text", ""))[:MAX_MESSAGE_LENGTH],
        run_key=run_key,
        cost=describe_cost(spec, usage.get("spent_cost")),
        **_count_questions(usage),
        method=plan["method"],
        method_reason=_find_reason(plan)[:MAX_MESSAGE_LENGTH],
        metrics=_find_metrics(_read_result(run, "baselines"), after),
    )


def _sum_usage(spec: FineTuneJobSpec, run: RunStore) -> dict[str, float]:
    """Of all models that the run has asked, as far as their stages are done."""
    synthesis, judge = (
        _get_usage(_read_result(run, stage) if run.exists(f"stages/{stage}.json") else None)
        for stage in ("synthesize", "judge")
    )
    return add_spending(spec, synthesis, judge)


def _read_result(run: RunStore, stage: str) -> dict[str, Any]:
    return dict(json.loads(run.get(f"stages/{stage}.json"))["result"])


def _find_reason(plan: dict[str, Any]) -> str:
    reasons = [one for one in plan.get("reasons", []) if one["field"] == "training.method"]
    return str(reasons[0]["why"]) if reasons else ""


def _find_metrics(before: dict[str, Any], after: dict[str, Any]) -> Metrics | None:
    """The decisive metric of the adapter and of the best baseline."""
    verdict = after.get("verdict") or {}
    difference = verdict.get("difference")
    if not difference or not after["models"]:
        return None
    name = difference["metric"]
    baselines = [one for one in before["models"] if one["name"] == verdict["best_baseline"]]
    return Metrics(
        name=name,
        score=after["models"][0]["metrics"][name]["value"],
        best_baseline=baselines[0]["metrics"][name]["value"] if baselines else None,
    )
