"""What a reader of a plan should know before the job is started."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loam_api.planning.choices import EPOCHS_FROM_ROWS, LEARNING_RATE_RANGES
from loam_api.planning.facts import Facts
from loam_api.planning.generation import can_generate, estimate_generation_memory
from loam_api.planning.memory import fits
from loam_api.planning.method import FEW_ROWS, SYNTHESIS_ROWS
from loam_api.planning.profile import HardwareProfile, compute_worker_memory

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJobSpec
    from loam_api.planning.outcome import Plan

TEST_ROWS_FOR_VERDICT = 50
USUAL_EPOCHS = 3


def find_warnings(
    plan: Plan, facts: Facts, profile: HardwareProfile, spec: FineTuneJobSpec
) -> tuple[str, ...]:
    """Sentences, most general first."""
    return (
        *_warn_of_rows(plan, facts, spec),
        *_warn_of_lengths(plan, facts, spec),
        *_warn_of_settings(plan, spec),
        *_warn_of_hardware(plan, profile, spec),
        *_warn_of_generation(plan, facts, profile, spec),
    )


def _warn_of_rows(plan: Plan, facts: Facts, spec: FineTuneJobSpec) -> Iterator[str]:
    rows, num_test_rows = facts.data.num_real_rows, facts.data.num_test_rows
    if not rows:
        yield "The number of training rows is not known yet: the choices may change."
    elif rows < SYNTHESIS_ROWS and spec.synthesis is None:
        yield (
            f"{rows} real rows: below {SYNTHESIS_ROWS}, synthetic examples usually pay; "
            "add a synthesis block."
        )
    if 0 < rows < FEW_ROWS:
        yield (
            f"{rows} real rows: with fewer than {FEW_ROWS}, prompting alone may do as well; "
            "the verdict compares with it."
        )
    if num_test_rows is not None and num_test_rows < TEST_ROWS_FOR_VERDICT:
        yield (
            f"{num_test_rows} test rows: with fewer than {TEST_ROWS_FOR_VERDICT} the verdict is "
            "'not assessable'."
        )
    if facts.data.num_preference_rows:
        yield (
            f"{facts.data.num_preference_rows} rows have a refused answer beside the chosen one: "
            "only the chosen answers are learnt, the refused ones are not used in training."
        )


def _warn_of_lengths(plan: Plan, facts: Facts, spec: FineTuneJobSpec) -> Iterator[str]:
    if facts.data.max_tokens > plan.max_sequence_length:
        outcome = {"fail": "the job fails", "drop": "they are dropped", "truncate": "they are cut"}
        yield (
            f"Rows of up to {facts.data.max_tokens:,} tokens are over maxSequenceLength "
            f"{plan.max_sequence_length:,}: {outcome[spec.training.on_too_long]} "
            f"(onTooLong: {spec.training.on_too_long})."
        )
    limit = facts.model.max_position_embeddings
    if limit and plan.max_sequence_length > limit:
        length = f"{plan.max_sequence_length:,}"
        yield f"maxSequenceLength {length} is over the {limit:,} tokens that the model reads."


def _warn_of_settings(plan: Plan, spec: FineTuneJobSpec) -> Iterator[str]:
    low, high = LEARNING_RATE_RANGES[plan.method]
    if not low <= plan.learning_rate <= high:
        yield (
            f"learningRate {plan.learning_rate:g} is outside {low:g} to {high:g}, "
            f"the usual range for {plan.method}."
        )
    num_rows = plan.num_real_rows + plan.num_synthetic_rows
    if plan.epochs > USUAL_EPOCHS and num_rows >= EPOCHS_FROM_ROWS:
        yield f"{plan.epochs:g} passes over {num_rows:,} rows: more than 3 tend to overfit."
    if spec.training.full.sharding != plan.sharding:
        yield f"training.full.sharding is not used: the method is {plan.method}."


def _warn_of_hardware(plan: Plan, profile: HardwareProfile, spec: FineTuneJobSpec) -> Iterator[str]:
    memory_bytes = compute_worker_memory(profile, plan.num_workers)
    if plan.memory and not fits(plan.memory, memory_bytes):
        yield (
            f"About {plan.memory.total / 10**9:,.1f} GB a worker are needed, of which "
            f"{plan.memory.state / 10**9:,.1f} GB whatever the batch; "
            f"there are {memory_bytes / 10**9:,.1f} GB."
        )
    if spec.compute.device == "cuda" and profile.device != "cuda":
        yield "compute.device is cuda, but no GPU was found."
    if profile.device == "cuda" and plan.num_workers > profile.num_devices:
        yield f"{plan.num_workers} workers need as many GPUs; there are {profile.num_devices}."
    if plan.precision == "bf16" and not profile.has_bf16:
        yield f"{profile.name} has no bf16 arithmetic: it will be slow."


def _warn_of_generation(
    plan: Plan, facts: Facts, profile: HardwareProfile, spec: FineTuneJobSpec
) -> Iterator[str]:
    needed = estimate_generation_memory(facts.model, facts.data, spec.synthesis, plan.precision)
    memory_bytes = compute_worker_memory(profile, plan.num_workers)
    if not can_generate(needed, memory_bytes):
        yield (
            f"The base model writes rows with about {needed / 10**9:,.1f} GB on each worker, which "
            f"has {memory_bytes / 10**9:,.1f} GB: it is neither quantized nor sharded there. "
            "Name another teacher, or take larger workers."
        )
