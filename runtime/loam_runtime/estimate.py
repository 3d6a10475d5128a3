"""`loam plan`: what a run would do, from file headers and a count of rows; nothing heavy is loaded.

Of a remote model only the headers are fetched, and the seeds whole: they are counted. Tokens
are estimated from characters: the tokenizer alone takes seconds to load. The run plans again from
counted tokens, and its report shows that plan.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from loam_api.planning.facts import DataFacts, Facts, ModelFacts
from loam_api.planning.plan import Plan, plan
from loam_runtime.data.loading import scan_examples
from loam_runtime.data.prompt import build_contract
from loam_runtime.data.splits import (
    MIN_ROWS_FOR_TEST,
    MIN_ROWS_PER_CLASS_FOR_VALIDATION,
    TEST_FRACTION,
    VALIDATION_FRACTION,
)
from loam_runtime.hardware import detect_hardware
from loam_runtime.models.facts import measure_model
from loam_runtime.models.files import open_model
from loam_runtime.storage.cache import fetch

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJob, FineTuneJobSpec
    from loam_api.planning.answer_judge import AnswerJudgeEstimate
    from loam_api.planning.teacher import TeacherEstimate
    from loam_runtime.data.examples import Example

_CHARACTERS_PER_TOKEN = 4.0  # of English under today's vocabularies, roughly
_SPECIAL_TOKENS = 2  # BOS and the terminator
_GIB = 2**30


def estimate_plan(job: FineTuneJob, base_dir: Path) -> Plan:
    """The plan from what is known before anything runs.

    Raises:
        InputError: the model or the data is missing or cannot be read.
    """
    spec = job.spec
    model = open_model(spec.model.uri, revision=spec.model.revision, base_dir=base_dir)
    seeds = list(scan_examples(fetch(spec.data.seeds.uri, base_dir=base_dir), spec.data))
    facts = Facts(ModelFacts.from_dict(measure_model(model)), estimate_rows(spec, seeds))
    return plan(facts, detect_hardware(spec.compute.device), spec)


def estimate_rows(spec: FineTuneJobSpec, seeds: list[Example]) -> DataFacts:
    """Expected size of the training set after the splits and the synthesis."""
    contract = build_contract(spec.data, [row.target for row in seeds])
    answers = [_count_tokens(contract.render_target(row.target)) for row in seeds]
    lengths = [
        _count_tokens(contract.render_prompt(row.input, row.context)) + answer + _SPECIAL_TOKENS
        for row, answer in zip(seeds, answers, strict=True)
    ]
    num_train, num_validation = _estimate_split(spec, seeds)
    num_synthetic = spec.synthesis.target_count if spec.synthesis else 0
    share = (num_train + num_synthetic) / len(seeds) if seeds else 0
    per_class = Counter(row.target for row in seeds) if contract.labels else {}
    return DataFacts(
        num_real_rows=num_train,
        num_validation_rows=num_validation,
        num_test_rows=_estimate_test(spec, len(seeds)),
        num_preference_rows=sum(bool(row.rejected) for row in seeds),
        min_rows_per_class=min(per_class.values(), default=0),
        p50_tokens=int(median(lengths)) if lengths else 0,
        max_tokens=max(lengths, default=0),
        num_tokens=round(sum(lengths) * share),
        num_supervised_tokens=round(sum(answers) * share),
    )


def describe_plan(resolved: Plan) -> str:
    """The plan for a person: each choice with its reason, then what it takes."""
    lines = [f"{one.field} = {one.value}\n    {one.why}" for one in resolved.reasons]
    if resolved.memory:
        lines.append(f"Memory of one worker: about {resolved.memory.total / _GIB:.1f} GiB")
    if resolved.time:
        duration = _format_minutes(resolved.time.seconds)
        lines.append(f"Training time, without synthesis and evaluation: about {duration}")
    if resolved.teacher:
        lines += _describe_teacher(resolved.teacher)
    if resolved.answer_judge:
        lines += _describe_answer_judge(resolved.answer_judge)
    return "\n".join([*lines, *(f"Warning: {warning}" for warning in resolved.warnings)])


def _describe_teacher(asked: TeacherEstimate) -> list[str]:
    lines = [
        f"Teacher: {asked.min_requests:,} to {asked.max_requests:,} requests, "
        f"{asked.min_tokens:,} to {asked.max_tokens:,} tokens"
    ]
    if asked.judge:
        lines.append(
            f"Of these, the judge {asked.judge}: up to {asked.max_judge_requests:,} requests"
        )
    if asked.min_cost is not None and asked.max_cost is not None:
        cost = f"Cost of these: {asked.min_cost:,.2f} to {asked.max_cost:,.2f} {asked.currency}"
        lines.append(cost.rstrip())
    return lines


def _describe_answer_judge(asked: AnswerJudgeEstimate) -> list[str]:
    lines = [
        f"Judge of answers {asked.model}: up to {asked.requests:,} requests, about "
        f"{asked.tokens:,} tokens"
    ]
    if asked.cost is not None:
        lines.append(f"Cost of these: about {asked.cost:,.2f} {asked.currency}".rstrip())
    return lines


def _estimate_split(spec: FineTuneJobSpec, seeds: list[Example]) -> tuple[int, int]:
    """Rows of training and validation, by the rules of `data.splits`."""
    num_rows = len(seeds) - (_estimate_test(spec, len(seeds)) or 0)
    validation = spec.data.validation
    if validation.mode == "fraction":
        return num_rows - round(num_rows * validation.fraction), round(
            num_rows * validation.fraction
        )
    per_class = Counter(row.target if spec.data.task == "classification" else "" for row in seeds)
    is_large = min(per_class.values(), default=0) >= MIN_ROWS_PER_CLASS_FOR_VALIDATION
    held_out = (
        round(num_rows * VALIDATION_FRACTION) if validation.mode == "auto" and is_large else 0
    )
    return num_rows - held_out, held_out


def _estimate_test(spec: FineTuneJobSpec, num_seeds: int) -> int | None:
    """Rows of the test, by the rules of `data.splits`; None where they have a file of their own."""
    if spec.data.test is not None:
        return None
    return round(num_seeds * TEST_FRACTION) if num_seeds >= MIN_ROWS_FOR_TEST else 0


def _count_tokens(text: str) -> int:
    return max(1, round(len(text) / _CHARACTERS_PER_TOKEN))


def _format_minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
