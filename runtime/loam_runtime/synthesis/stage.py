"""The synthesis stage of a job: draw and filter until the wanted number of rows is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_api.run_key import describe_synthesis
from loam_runtime.data.examples import iterate_examples, to_dataset
from loam_runtime.observability.monitor import NullMonitor, StageMonitor
from loam_runtime.synthesis.budget import PriceList
from loam_runtime.synthesis.collect import share_quotas
from loam_runtime.synthesis.drawing import Drawing
from loam_runtime.synthesis.embeddings import embed_texts
from loam_runtime.synthesis.filters.base import FilterChain
from loam_runtime.synthesis.filters.label_judges import build_label_judges
from loam_runtime.synthesis.filters.registry import (
    build_judges,
    build_pair_judges,
    build_unsafe_judges,
    build_validity_filters,
    build_wrong_answers,
)
from loam_runtime.synthesis.segments import SegmentStore
from loam_runtime.synthesis.strategies.base import Rejection, SamplingSettings, TaskBrief
from loam_runtime.synthesis.teachers import Teacher

if TYPE_CHECKING:
    from datasets import Dataset

    from loam_api.finetunejob import DataSpec, OpenAITeacher, Synthesis
    from loam_runtime.data.prompt import PromptContract
    from loam_runtime.synthesis.filters.wrong_answers import WrongAnswers


@dataclass(frozen=True, slots=True)
class SynthesisResult:
    """What the stage leaves.

    Attributes:
        kept: synthetic rows, a table of examples.
        rejected: rows that were not used: input, target, reason, filter, score, source.
        report: draws, the funnel filter by filter and class by class, how far each filter is
            trusted, rows wanted and missing.
        usage: requests, tokens and, where prices are known, money; of this start and (`spent_*`)
            of the whole run.
        scores: quality by id of the kept rows that have one.
        rationales: those of training rows that had none, by the row's id.
        wrong_answers: what the quality classifier learnt from, by the training row's id.
    """

    kept: Dataset
    rejected: list[dict[str, object]]
    report: dict[str, Any]
    usage: dict[str, float]
    scores: dict[str, float]
    rationales: dict[str, str]
    wrong_answers: dict[str, str] = field(default_factory=dict)


def synthesize(
    train: Dataset,
    contract: PromptContract,
    spec: Synthesis,
    *,
    data: DataSpec,
    teacher: Teacher,
    judge: Teacher | None = None,
    held_out: Mapping[str, str],
    seed: int,
    journal_dir: Path,
    journal_store: SegmentStore | None = None,
    database: Path | None = None,
    explains: bool = False,
    monitor: StageMonitor | None = None,
) -> SynthesisResult:
    """Have `spec.target_count` synthetic rows written that pass all filters.

    The same inputs and the same journal give the same rows. Fewer rows than wanted are
    returned where the teacher's yield is too low; the report says how many are missing.

    Args:
        train: training rows; prompts and filters are made of these alone.
        contract: the job's prompt contract, for the label-consistency filter.
        judge: the model of `spec.judge`, where it names one.
        held_out: inputs of test and validation rows that no synthetic row may repeat, by the
            row's name in a reason: "test row 1".
        seed: of the job.
        journal_dir: survives a restart; may be shared by the jobs of one namespace.
        journal_store: copy of the journal in object storage.
        database: SQLite file that SQL answers must run in.
        explains: have the answers of the training rows explained too.

    Raises:
        BudgetError: the budget ended before there were rows enough to train on, see `Collector`.
        CredentialsError, TeacherError: the teacher refuses, is down, or writes nothing usable.
        InputError: the strategy does not fit the task, or an untrusted filter is to fail.
    """
    monitor = monitor or NullMonitor()
    brief = TaskBrief(
        seeds=tuple(iterate_examples(train)),
        is_classification=data.task == "classification",
        description=data.description,
        constraints=tuple(data.domain_constraints),
        random_seed=seed,
        label_names=contract.verbalizers,
        task=data.task,
        languages=spec.languages,
        database=database,
    )
    wrong_answers = build_wrong_answers(
        brief, teacher=teacher, sampling=_read_sampling(spec), num_rows=spec.target_count
    )
    chain = _build_chain(brief, contract, spec, (teacher, judge), held_out, wrong_answers)
    drawing = Drawing(
        teacher=teacher,
        strategy=spec.strategy,
        sampling=_read_sampling(spec),
        journal_dir=journal_dir,
        run_id=_compute_run_id(spec, contract, brief),
        max_requests=spec.budget.max_requests,
        max_tokens=spec.budget.max_tokens,
        max_cost=spec.budget.max_cost,
        prices=_read_prices(spec.teacher.openai),
        label_judge=judge,
        judge_prices=_read_prices(spec.judge.openai if spec.judge else None),
        journal_store=journal_store,
        monitor=monitor,
        explains=explains,
    )
    result = _draw_and_select(drawing, brief, chain, spec, monitor)
    return replace(result, wrong_answers=wrong_answers.texts) if wrong_answers else result


def _build_chain(
    brief: TaskBrief,
    contract: PromptContract,
    spec: Synthesis,
    asked: tuple[Teacher, Teacher | None],
    held_out: Mapping[str, str],
    wrong_answers: WrongAnswers | None,
) -> FilterChain:
    """All filters of a job.

    Args:
        asked: the teacher, and the judge where there is one.
    """
    options: Any = {
        **dict(zip(("teacher", "judge"), asked, strict=True)),
        "max_tokens": spec.sampling.max_tokens,
        "on_untrusted": spec.on_untrusted_filter,
    }
    labels = build_label_judges(brief, spec.filters, contract=contract, **options)
    judges = build_judges(
        brief,
        spec.filters,
        held_out=held_out,
        quality_threshold=spec.quality_threshold,
        consistency=labels.scored,
        wrong_answers=wrong_answers,
    )
    return FilterChain(
        [*build_validity_filters(brief, spec.filters), *judges],
        [
            *build_unsafe_judges(brief, spec.filters, **options),
            *build_pair_judges(brief, spec.sampling.max_tokens),
            *labels.asked,
        ],
        is_classification=brief.is_classification,
    )


def _draw_and_select(
    drawing: Drawing,
    brief: TaskBrief,
    chain: FilterChain,
    spec: Synthesis,
    monitor: StageMonitor,
) -> SynthesisResult:
    from loam_runtime.synthesis.measures import measure_rows
    from loam_runtime.synthesis.selection import select_rows

    quotas = share_quotas(spec.target_count, brief, is_even=spec.strategy == "inContext")
    collection, usage = drawing.draw(brief, chain, quotas)
    kept = select_rows(
        collection.kept,
        chain.scores,
        quotas,
        seeds=brief.seeds,
        diversity_weight=spec.diversity_weight,
        embed=embed_texts,
    )
    report = {
        **collection.describe(),
        **collection.strategy.describe(kept),
        "filters": chain.describe(),
        "wanted": spec.target_count,
        "kept": len(kept),
        "missing": spec.target_count - len(kept),
        "stopped": collection.stopped,
        "measures": measure_rows(
            kept,
            brief.seeds,
            is_classification=brief.is_classification,
            embed=embed_texts,
            random_seed=brief.random_seed,
        ),
    }
    monitor.log("synthesis finished", kept=len(kept), missing=report["missing"], **usage)
    chosen = {row.id for row in kept}
    spare = [
        Rejection(row, "good, but more than wanted", "selection", chain.scores.get(row.id))
        for row in collection.kept
        if row.id not in chosen
    ]
    rejected = [one.to_record() for one in (*collection.malformed, *chain.rejected, *spare)]
    scores = {row.id: chain.scores[row.id] for row in kept if row.id in chain.scores}
    rationales = collection.explained.texts if collection.explained else {}
    return SynthesisResult(to_dataset(kept), rejected, report, usage, scores, rationales)


def _read_sampling(spec: Synthesis) -> SamplingSettings:
    sampling = spec.sampling
    return SamplingSettings(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
    )


def _read_prices(endpoint: OpenAITeacher | None) -> PriceList:
    found = endpoint.find_prices() if endpoint else None
    return PriceList(found.prompt, found.completion) if found else PriceList()


def _compute_run_id(spec: Synthesis, contract: PromptContract, brief: TaskBrief) -> str:
    """The run's name in the journal: of all that shapes its rows, so that what may change while a
    job runs, the budget among it, leaves the run's spending what it was."""
    shape = [
        describe_synthesis(spec),
        contract.to_json(),
        [seed.id for seed in brief.seeds],
        brief.description,
        brief.constraints,
        brief.random_seed,
    ]
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]
