"""`method: auto`: the recommendation matrix, each choice with its reason.

The sources disagree in places; the order of the rules says who wins. [1] is "Efficient
fine-tuning with scarce data" (its recommendation matrix), [2] "An efficient strategy for
fine-tuning large language models", [3] "Fine-Tuning and Parameter-Efficient Methods".
"""

from __future__ import annotations

from dataclasses import dataclass

SMALL_GPU_BYTES = 40 * 10**9  # GPUs are sold in decimal gigabytes: a "40 GB" one is not small

FEW_ROWS = 100
MANY_ROWS = 1_000
HIGH_RANK_ROWS = 5_000
FULL_ROWS = 10_000
SYNTHESIS_ROWS = 500  # below this many real rows, synthetic ones are worth their cost [1]


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """A method, its rank (0 for full fine-tuning) and the rule that decided."""

    method: str
    rank: int
    reason: str


def choose_method(
    num_rows: int,
    *,
    gpu_memory_bytes: int = 0,
    lora_fits: bool = True,
    full_fits: bool = False,
    is_budget_constrained: bool = False,
) -> MethodChoice:
    """The method for a training set of `num_rows` real rows.

    Args:
        num_rows: real training rows; synthetic ones do not count.
        gpu_memory_bytes: of one GPU; 0 without one.
        lora_fits: LoRA's estimate fits in the device's memory.
        full_fits: full fine-tuning's estimate does.
        is_budget_constrained: the cheapest method is wanted.
    """
    rank = choose_rank(num_rows)
    if is_budget_constrained:
        return MethodChoice("qlora", rank, "the budget is constrained: always QLoRA")
    if 0 < gpu_memory_bytes < SMALL_GPU_BYTES:
        size = gpu_memory_bytes / 10**9
        return MethodChoice("qlora", rank, f"a GPU of {size:.0f} GB is under 40 GB: QLoRA")
    if not lora_fits:
        return MethodChoice("qlora", rank, "LoRA does not fit in the device's memory: QLoRA")
    rows = f"{num_rows:,} real rows"
    if num_rows < FEW_ROWS:
        return MethodChoice("qlora", rank, f"{rows}, under 100: QLoRA, rank 8")
    if num_rows < MANY_ROWS:
        return MethodChoice("qlora", rank, f"{rows}, 100 to 999: QLoRA, rank 16")
    if num_rows >= FULL_ROWS and full_fits:
        return MethodChoice("full", 0, f"{rows}, 10,000 or more, and it fits: full fine-tuning")
    if num_rows >= FULL_ROWS:
        reason = f"{rows}, 10,000 or more, but full fine-tuning does not fit: LoRA, rank {rank}"
        return MethodChoice("lora", rank, reason)
    return MethodChoice("lora", rank, f"{rows}, 1,000 to 9,999: LoRA, rank {rank}")


def find_sure_choice(num_rows: int) -> MethodChoice | None:
    """What `choose_method` takes on any device; None where that depends on the device.

    Its reason is that of a device with room for everything: on a small one another holds as well.
    """
    cramped = choose_method(num_rows, lora_fits=False)
    roomy = choose_method(num_rows, full_fits=True)
    return roomy if roomy.method == cramped.method else None


def choose_rank(num_rows: int) -> int:
    """8 under 100 real rows, 16 under 5,000, else 32: fewer parameters overfit less [1]."""
    if num_rows < FEW_ROWS:
        return 8
    return 16 if num_rows < HIGH_RANK_ROWS else 32
