"""What a plan says: every choice of a run, with reasons, estimates and warnings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from loam_api.planning.answer_judge import AnswerJudgeEstimate
from loam_api.planning.choices import Reason
from loam_api.planning.memory import MemoryEstimate
from loam_api.planning.teacher import TeacherEstimate
from loam_api.planning.time import TimeEstimate


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do; nothing in it is left to be chosen.

    Attributes:
        rank, alpha: 0 for full fine-tuning.
        num_real_rows, num_synthetic_rows: trained on; the latter expected until synthesis is done.
        num_steps: optimizer steps; 0 while the number of rows is unknown.
        warmup: share of the steps in which the learning rate rises.
        early_stopping_patience: evaluations without improvement; 0 for a fixed number of steps.
        memory, time: None while the model's or the rows' sizes are unknown.
        teacher: None without synthesis.
        answer_judge: None without `evaluation.judge`.
    """

    method: str
    rank: int
    alpha: int
    dropout: float
    target_modules: tuple[str, ...]
    sharding: str
    learning_rate: float
    num_real_rows: int
    num_synthetic_rows: int
    num_steps: int
    steps_per_epoch: int
    epochs: float
    warmup: float
    global_batch: int
    micro_batch: int
    max_sequence_length: int
    precision: str
    device: str
    num_workers: int
    has_validation: bool
    early_stopping_patience: int
    eval_every_steps: int
    memory: MemoryEstimate | None
    time: TimeEstimate | None
    teacher: TeacherEstimate | None
    answer_judge: AnswerJudgeEstimate | None
    reasons: tuple[Reason[Any], ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; the memory estimate also carries its total."""
        values = asdict(self)
        if self.memory:
            values["memory"]["total"] = self.memory.total
        return values
