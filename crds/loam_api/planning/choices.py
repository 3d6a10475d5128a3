"""The single choices of a plan: each a value with the reason for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from loam_api.planning.facts import DataFacts, Facts
from loam_api.planning.memory import MemoryEstimate, fits
from loam_api.planning.profile import HardwareProfile

if TYPE_CHECKING:
    from collections.abc import Callable

    from loam_api.finetunejob import FineTuneJobSpec, Training

T = TypeVar("T")

GIVEN = "as the job says"

LEARNING_RATES = {"lora": 2e-4, "qlora": 2e-4, "full": 2e-5}
LEARNING_RATE_RANGES = {"lora": (1e-4, 3e-4), "qlora": (1e-4, 3e-4), "full": (1e-5, 5e-5)}

MIN_STEPS = 100
EPOCHS_BY_ROWS = ((20_000, 1.0), (5_000, 2.0), (500, 3.0))
EPOCHS_FROM_ROWS = EPOCHS_BY_ROWS[-1][0]
LONG_RUN_STEPS = 1_000

ROWS_PER_CLASS_FOR_VALIDATION = 10
EVALUATIONS_PER_RUN = 10

LENGTH_MULTIPLE = 64  # keeps matrix shapes even; rows are padded to their batch, not to this
UNKNOWN_LENGTH = 1024

MAX_MICRO_BATCH = {"cpu": 8, "cuda": 64}


@dataclass(frozen=True, slots=True)
class Reason(Generic[T]):
    """One choice: the field of the manifest, its value, and why."""

    field: str
    value: T
    why: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long is trained: steps, and how many passes over the rows they are."""

    num_steps: int
    steps_per_epoch: int
    epochs: float


def choose_precision(training: Training, profile: HardwareProfile) -> Reason[str]:
    """Of the computation; what is trained is fp32 in any case."""
    if training.precision != "auto":
        return Reason("training.precision", training.precision, GIVEN)
    if profile.has_bf16:
        return Reason("training.precision", "bf16", f"{profile.name} computes in bf16")
    return Reason("training.precision", "fp32", f"{profile.name} has no bf16 arithmetic")


def choose_learning_rate(training: Training, method: str) -> Reason[float]:
    """2e-4 for the LoRA family, 2e-5 for full fine-tuning."""
    if training.learning_rate:
        return Reason("training.learningRate", training.learning_rate, GIVEN)
    low, high = LEARNING_RATE_RANGES[method]
    why = f"usual for {method}: {low:g} to {high:g}"
    return Reason("training.learningRate", LEARNING_RATES[method], why)


def choose_schedule(training: Training, num_rows: int) -> Reason[Schedule]:
    """1 to 3 passes from 500 rows on; below, at least 100 steps, however many passes that is."""
    steps_per_epoch = math.ceil(num_rows / training.global_batch)
    epochs, why = training.epochs, GIVEN
    if not epochs and num_rows >= EPOCHS_FROM_ROWS:
        epochs = next(epochs for rows, epochs in EPOCHS_BY_ROWS if num_rows >= rows)
        why = f"{num_rows:,} rows: {epochs:g} passes"
    elif not epochs:
        steps = max(MIN_STEPS, 3 * steps_per_epoch)
        epochs = round(steps / max(steps_per_epoch, 1), 2)
        why = f"{num_rows:,} rows, under {EPOCHS_FROM_ROWS}: 3 passes, at least {MIN_STEPS} steps"
    num_steps = math.ceil(epochs * steps_per_epoch - 1e-9)
    return Reason("training.epochs", Schedule(num_steps, steps_per_epoch, epochs), why)


def choose_warmup(num_steps: int) -> float:
    """Share of the steps in which the learning rate rises: more of a short run."""
    return 0.1 if num_steps < LONG_RUN_STEPS else 0.03


def choose_max_length(spec: FineTuneJobSpec, facts: Facts) -> Reason[int]:
    """The longest row, rounded up, within what the model can read."""
    limit = facts.model.max_position_embeddings
    if spec.training.max_sequence_length:
        return Reason("training.maxSequenceLength", spec.training.max_sequence_length, GIVEN)
    longest, why = facts.data.max_tokens, f"the longest row has {facts.data.max_tokens:,} tokens"
    if not longest:
        longest, why = UNKNOWN_LENGTH, "lengths are not known yet"
    elif spec.synthesis and facts.data.num_synthetic_rows is None:
        longest += spec.synthesis.sampling.max_tokens
        why += f"; synthetic rows may be {spec.synthesis.sampling.max_tokens:,} longer"
    length = math.ceil(longest / LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    if limit and length > limit:
        return Reason(
            "training.maxSequenceLength", limit, f"the model reads {limit:,} tokens at most; {why}"
        )
    return Reason("training.maxSequenceLength", length, why)


def choose_validation(spec: FineTuneJobSpec, data: DataFacts) -> Reason[bool]:
    """Whether there is a validation set, from the split where it is made, else foreseen."""
    if data.num_validation_rows is not None:
        return Reason(
            "data.validation",
            data.num_validation_rows > 0,
            f"{data.num_validation_rows:,} rows set aside",
        )
    mode = spec.data.validation.mode
    if mode != "auto":
        return Reason("data.validation", mode != "none", GIVEN)
    fewest = data.min_rows_per_class or data.num_real_rows
    what = "the smallest class has" if data.min_rows_per_class else "there are"
    why = f"{what} {fewest:,} rows; {ROWS_PER_CLASS_FOR_VALIDATION} are needed to spare some"
    return Reason("data.validation", fewest >= ROWS_PER_CLASS_FOR_VALIDATION, why)


def choose_eval_every(schedule: Schedule) -> int:
    """Steps between two evaluations: a tenth of the run, at most one pass."""
    return max(1, min(schedule.steps_per_epoch, schedule.num_steps // EVALUATIONS_PER_RUN))


def choose_micro_batch(
    spec: FineTuneJobSpec,
    profile: HardwareProfile,
    memory_bytes: int,
    estimate: Callable[[int], MemoryEstimate | None],
) -> Reason[int]:
    """The largest power of two that fits by `estimate(micro_batch)`, within each worker's share."""
    if spec.training.micro_batch:
        return Reason("training.microBatch", spec.training.micro_batch, GIVEN)
    share = math.ceil(spec.training.global_batch / spec.compute.workers.max)
    size = 2 ** int(math.log2(min(share, MAX_MICRO_BATCH[profile.device])))
    why = "a worker's share of the global batch, up to what the device gains from"
    while size > 1 and (memory := estimate(size)) and not fits(memory, memory_bytes):
        size //= 2
        why = f"what fits in {memory_bytes / 10**9:,.1f} GB"
    return Reason("training.microBatch", size, why)
