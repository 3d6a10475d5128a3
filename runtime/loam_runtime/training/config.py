"""What one training run is asked to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from loam_runtime.errors import InputError

MethodName = Literal["lora", "qlora", "full"]
Sharding = Literal["none", "fullShard"]
Precision = Literal["bf16", "fp32"]
Decay = Literal["linear", "cosine"]


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Every choice of a training run, resolved: nothing here means "decide later".

    Attributes:
        method: how the model is trained.
        learning_rate: peak of the schedule.
        max_steps: optimizer steps; 0 means `epochs` decides.
        epochs: passes over the rows, used when `max_steps` is 0.
        global_batch: most examples in one optimizer step, over all workers together.
        micro_batch: most examples in one forward pass of one worker. The memory probe may halve it.
        warmup: share of the steps in which the learning rate rises from 0, in [0, 1).
        rationale_weight: lambda in L = L_answer + lambda L_rationale, each a mean over its own
            tokens; without rationales it has no effect.
        decay: how the learning rate falls to 0 after the warm-up.
        rank, alpha, dropout, target_modules: LoRA's; unused by `full`.
        sharding: `fullShard` spreads parameters, gradients and optimizer state over the workers.
        precision: of the arithmetic. Trained parameters and optimizer state are always fp32.
        seed: of the batches, the initial adapter and the dropout.
        early_stopping_patience: evaluations without improvement before stopping; 0 for never.
        eval_every_steps: steps between evaluations of the validation set; 0 for once an epoch.
        checkpoint_every_seconds: 0 for a checkpoint after every step.
        keep_last: checkpoints kept besides the best one.
        device: a torch device, "cpu" or "cuda".
        num_workers, min_workers: training processes, and how many of them are enough to begin with;
            0 for all of them.
    """

    method: MethodName
    learning_rate: float
    max_steps: int = 0
    epochs: float = 1.0
    global_batch: int = 16
    micro_batch: int = 8
    warmup: float = 0.1
    decay: Decay = "linear"
    rationale_weight: float = 1.0
    rank: int = 16
    alpha: int = 64
    dropout: float = 0.1
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    sharding: Sharding = "none"
    precision: Precision = "fp32"
    seed: int = 0
    early_stopping_patience: int = 0
    eval_every_steps: int = 0
    checkpoint_every_seconds: float = 300.0
    keep_last: int = 2
    device: str = "cpu"
    num_workers: int = 1
    min_workers: int = 0

    def __post_init__(self) -> None:
        if self.max_steps <= 0 and self.epochs <= 0:
            raise InputError("Training has neither maxSteps nor epochs.", remedy="Set one of them.")
        for name in ("global_batch", "micro_batch", "keep_last", "num_workers"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"training {name} is {getattr(self, name)}.", remedy="Use 1 or more."
                )
        if not 0 <= self.min_workers <= self.num_workers:
            raise InputError(
                f"training min_workers is {self.min_workers}, of {self.num_workers} workers.",
                remedy="Use a number between, or 0 for all.",
            )
        if not 0 <= self.warmup < 1:
            raise InputError(f"training warmup is {self.warmup}.", remedy="Use a share in [0, 1).")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dictionary that `from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """The inverse of `to_dict`."""
        return cls(**{**values, "target_modules": tuple(values["target_modules"])})
