"""The plan of a job: everything left to Loam resolved, with reasons, memory, time and cost."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from loam_api.planning import choices
from loam_api.planning.answer_judge import estimate_answer_judge
from loam_api.planning.choices import Reason
from loam_api.planning.facts import Facts
from loam_api.planning.memory import MemoryEstimate, TrainingShape, estimate_memory, fits
from loam_api.planning.method import choose_method, choose_rank
from loam_api.planning.outcome import Plan
from loam_api.planning.profile import HardwareProfile, compute_worker_memory
from loam_api.planning.teacher import TeacherEstimate, estimate_teacher
from loam_api.planning.time import TimeEstimate, estimate_time
from loam_api.planning.warnings import find_warnings

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJobSpec

__all__ = ["Plan", "plan"]

ALPHA_PER_RANK = 4
# Those whose rows have an input and an answer that is a text.
_TASKS_WITH_WRONG_ANSWERS = ("generation", "extraction", "summarization")


def plan(facts: Facts, profile: HardwareProfile, spec: FineTuneJobSpec) -> Plan:
    """Resolves a job for this hardware. A pure function; unknown facts leave estimates out."""
    return _Planner(facts, profile, spec).build()


class _Planner:
    """Holds what is resolved so far; each choice may depend on those before it."""

    def __init__(self, facts: Facts, profile: HardwareProfile, spec: FineTuneJobSpec) -> None:
        self._facts, self._profile, self._spec = facts, profile, spec
        self._num_synthetic_rows = self._count_synthetic_rows()
        self._num_rows = facts.data.num_real_rows + self._num_synthetic_rows
        self._memory_bytes = compute_worker_memory(profile, spec.compute.workers.max)
        self._precision = choices.choose_precision(spec.training, profile)
        self._length = choices.choose_max_length(spec, facts)
        self._method = self._choose_method()
        self._rank = self._choose_rank()
        self._rate = choices.choose_learning_rate(spec.training, self._method.value)
        self._schedule = choices.choose_schedule(spec.training, self._num_rows)
        self._micro_batch = choices.choose_micro_batch(
            spec, profile, self._memory_bytes, self._estimate_memory
        )
        self._validation = choices.choose_validation(spec, facts.data)
        self._stopping = self._choose_early_stopping()

    def build(self) -> Plan:
        training, schedule = self._spec.training, self._schedule.value
        rank, has_validation = self._rank.value, self._validation.value
        resolved = Plan(
            method=self._method.value,
            rank=rank,
            alpha=(training.lora.alpha or ALPHA_PER_RANK * rank) if rank else 0,
            dropout=training.lora.dropout if rank else 0.0,
            target_modules=tuple(training.lora.target_modules) if rank else (),
            sharding="none" if rank else training.full.sharding,
            learning_rate=self._rate.value,
            num_real_rows=self._facts.data.num_real_rows,
            num_synthetic_rows=self._num_synthetic_rows,
            num_steps=schedule.num_steps,
            steps_per_epoch=schedule.steps_per_epoch,
            epochs=schedule.epochs,
            warmup=choices.choose_warmup(schedule.num_steps),
            global_batch=training.global_batch,
            micro_batch=self._micro_batch.value,
            max_sequence_length=self._length.value,
            precision=self._precision.value,
            device=self._profile.device,
            num_workers=self._spec.compute.workers.max,
            has_validation=has_validation,
            early_stopping_patience=self._stopping.value,
            eval_every_steps=choices.choose_eval_every(schedule) if has_validation else 0,
            memory=self._estimate_memory(self._micro_batch.value),
            time=self._estimate_time(),
            teacher=self._estimate_teacher(),
            answer_judge=estimate_answer_judge(self._spec.evaluation, self._facts.data),
            reasons=self._list_reasons(),
            warnings=(),
        )
        warnings = find_warnings(resolved, self._facts, self._profile, self._spec)
        return replace(resolved, warnings=warnings)

    def _count_synthetic_rows(self) -> int:
        measured = self._facts.data.num_synthetic_rows
        if measured is not None:
            return measured
        return self._spec.synthesis.target_count if self._spec.synthesis else 0

    def _choose_method(self) -> Reason[str]:
        if self._spec.training.method != "auto":
            return Reason("training.method", self._spec.training.method, choices.GIVEN)
        gpu = self._profile.memory_bytes if self._profile.device == "cuda" else 0
        choice = choose_method(
            self._facts.data.num_real_rows,
            gpu_memory_bytes=gpu,
            lora_fits=self._does_fit("lora", default=True),
            full_fits=self._does_fit("full", default=False),
            is_budget_constrained=self._profile.is_budget_constrained,
        )
        return Reason("training.method", choice.method, choice.reason)

    def _choose_rank(self) -> Reason[int]:
        given, num_rows = self._spec.training.lora.rank, self._facts.data.num_real_rows
        if self._method.value == "full":
            return Reason("training.lora.rank", 0, "full fine-tuning has no rank")
        if given:
            return Reason("training.lora.rank", given, choices.GIVEN)
        why = f"{num_rows:,} real rows: fewer parameters overfit less"
        return Reason("training.lora.rank", choose_rank(num_rows), why)

    def _choose_early_stopping(self) -> Reason[int]:
        field, settings = "training.earlyStopping", self._spec.training.early_stopping
        if not settings.enabled:
            return Reason(field, 0, choices.GIVEN)
        if not self._validation.value:
            return Reason(field, 0, "no validation set: a fixed number of steps")
        return Reason(field, settings.patience, "stops when the validation loss no longer falls")

    def _does_fit(self, method: str, *, default: bool) -> bool:
        """Whether one row at a time fits; `default` while the model is unknown."""
        if not self._facts.model.is_known:
            return default
        rank = choose_rank(self._facts.data.num_real_rows)
        memory = estimate_memory(self._facts.model, self._build_shape(method, rank, 1))
        return fits(memory, self._memory_bytes)

    def _build_shape(self, method: str, rank: int, micro_batch: int) -> TrainingShape:
        training = self._spec.training
        is_sharded = method == "full" and training.full.sharding == "fullShard"
        return TrainingShape(
            method=method,
            precision=self._precision.value,
            micro_batch=micro_batch,
            row_tokens=self._length.value,
            rank=training.lora.rank or rank,
            target_modules=tuple(training.lora.target_modules),
            supervised_tokens=math.ceil(self._measure_row_tokens()[1]),
            num_shards=self._spec.compute.workers.max if is_sharded else 1,
        )

    def _estimate_memory(self, micro_batch: int) -> MemoryEstimate | None:
        if not self._facts.model.is_known:
            return None
        shape = self._build_shape(self._method.value, self._rank.value, micro_batch)
        return estimate_memory(self._facts.model, shape)

    def _measure_row_tokens(self) -> tuple[float, float]:
        """Mean tokens of a row, all and supervised; 0 where unknown."""
        data = self._facts.data
        if not data.num_tokens or not self._num_rows:
            return float(data.p50_tokens), 0.0
        # Lengths are of the rows at hand; synthetic ones still to come count as like them.
        rows = data.num_real_rows + (data.num_synthetic_rows or 0)
        return data.num_tokens / rows, data.num_supervised_tokens / rows

    def _estimate_time(self) -> TimeEstimate | None:
        tokens, supervised = self._measure_row_tokens()
        rows = self._schedule.value.epochs * self._num_rows
        if not (self._facts.model.is_known and tokens and rows):
            return None
        return estimate_time(
            self._facts.model,
            self._profile,
            method=self._method.value,
            num_tokens=round(rows * tokens),
            num_supervised_tokens=round(rows * (supervised or tokens)),
            num_workers=self._spec.compute.workers.max,
        )

    def _estimate_teacher(self) -> TeacherEstimate | None:
        if not self._spec.synthesis:
            return None
        task, openai = self._spec.data.task, self._spec.synthesis.teacher.openai
        is_told = openai is None or openai.endpoint == "chat"
        return estimate_teacher(
            self._spec.synthesis,
            self._facts.data,
            is_classification=task == "classification",
            explains_seeds=self._spec.explains_seeds,
            asks_wrong_answers=is_told and task in _TASKS_WITH_WRONG_ANSWERS,
        )

    def _list_reasons(self) -> tuple[Reason[Any], ...]:
        schedule = self._schedule
        return (
            self._method,
            self._rank,
            self._rate,
            Reason(schedule.field, schedule.value.epochs, schedule.why),
            self._micro_batch,
            self._length,
            self._precision,
            self._validation,
            self._stopping,
        )
