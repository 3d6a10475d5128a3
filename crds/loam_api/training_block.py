"""The `training` block: method, schedule, batches, checkpoints."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from loam_api.base import ApiModel, FieldName, Rule

Method = Literal["auto", "full", "lora", "qlora"]


class LoraSettings(ApiModel):
    """Low-rank adaptation; read by the methods lora and qlora."""

    rules = (
        Rule(
            cel="self.targetModules.all(m, self.targetModules.exists_one(n, n == m))",
            holds=lambda it: len(set(it.target_modules)) == len(it.target_modules),
            message="each module may be named once",
            field="targetModules",
        ),
    )

    rank: int = Field(default=0, ge=0, le=512, description="0: by the number of rows.")
    alpha: int = Field(default=0, ge=0, le=4096, description="0: four times the rank.")
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of an adapter's inputs dropped in training."
    )
    target_modules: list[FieldName] = Field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"],
        min_length=1,
        max_length=32,
        description="Linear layers that get an adapter, by the last part of their name.",
    )


class FullSettings(ApiModel):
    """Full fine-tuning; read by the method full."""

    sharding: Literal["none", "fullShard"] = Field(
        default="none", description="fullShard: FSDP2, parameters spread over the workers."
    )


class EarlyStopping(ApiModel):
    """Stop when the validation loss no longer falls; needs a validation set."""

    enabled: bool = Field(default=True, description="Has no effect without a validation set.")
    patience: int = Field(default=2, ge=1, le=100, description="Evaluations without improvement.")


class Checkpointing(ApiModel):
    """Periodic checkpoints to the run's storage."""

    every_seconds: int = Field(
        default=300, ge=0, le=86_400, description="0: at every optimizer step."
    )
    keep_last: int = Field(
        default=2, ge=1, le=100, description="Checkpoints kept; the best one is kept besides."
    )


class Training(ApiModel):
    """How the model is trained. 0 and auto mean: chosen by the plan, which gives its reason."""

    rules = (
        Rule(
            cel="self.full.sharding == 'none' || self.method in ['auto', 'full']",
            holds=lambda it: it.full.sharding == "none" or it.method in ("auto", "full"),
            message="sharding is for full fine-tuning: method must be full or auto",
            field="method",
        ),
        Rule(
            cel="self.microBatch <= self.globalBatch",
            holds=lambda it: it.micro_batch <= it.global_batch,
            message="microBatch cannot be larger than globalBatch",
            field="microBatch",
        ),
        Rule(
            cel="self.rationale != 'prefix' || self.rationaleWeight == 1.0",
            holds=lambda it: it.rationale != "prefix" or it.rationale_weight == 1.0,
            message="a rationale before its answer has no loss of its own to weigh: leave "
            "rationaleWeight out, or use rationale: multiTask",
            field="rationaleWeight",
        ),
    )

    method: Method = Field(
        default="auto", description="auto: by the number of rows and the memory, with a reason."
    )
    lora: LoraSettings = Field(
        default_factory=LoraSettings, description="Settings of the methods lora and qlora."
    )
    full: FullSettings = Field(
        default_factory=FullSettings, description="Settings of the method full."
    )
    learning_rate: float = Field(
        default=0, ge=0, le=1, description="0: 2e-4 for lora and qlora, 2e-5 for full."
    )
    epochs: float = Field(
        default=0, ge=0, le=1000, description="Passes over the rows. 0: by the number of rows."
    )
    global_batch: int = Field(
        default=16, ge=1, le=65_536, description="Examples per optimizer step, over all workers."
    )
    micro_batch: int = Field(
        default=0, ge=0, le=4096, description="Examples at once per worker. 0: by the memory."
    )
    max_sequence_length: int = Field(
        default=0, ge=0, le=1_048_576, description="Tokens. 0: the longest row."
    )
    on_too_long: Literal["fail", "drop", "truncate"] = Field(
        default="fail",
        description="A row over maxSequenceLength: truncate shortens the prompt, never the answer.",
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto",
        description="Of the computation; what is trained stays fp32. "
        "auto: bf16 where the hardware has it.",
    )
    early_stopping: EarlyStopping = Field(
        default_factory=EarlyStopping,
        description="Stop when the validation loss no longer falls.",
    )
    checkpoint: Checkpointing = Field(
        default_factory=Checkpointing, description="Periodic checkpoints to the run's storage."
    )
    rationale: Literal["auto", "multiTask", "prefix", "none"] = Field(
        default="auto",
        description="multiTask: rows that carry a rationale teach it too, under a prompt of its "
        "own; answers keep theirs. prefix: the model writes the rationale before its answer, in "
        "use too. none: answers alone. auto: multiTask with synthesis.strategy rationale, else "
        "none.",
    )
    rationale_weight: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="Of the rationales' mean loss beside that of the answers.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**31 - 1,
        description="Of splits, synthesis, initialisation and the order of the rows.",
    )
