"""The `compute` block: what the training runs on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from loam_api.base import ApiModel, Cpu, Memory, Rule


class Workers(ApiModel):
    """Training processes."""

    rules = (
        Rule(
            cel="self.min <= self.max",
            holds=lambda it: it.min <= it.max,
            message="min cannot be larger than max",
            field="min",
        ),
    )

    min: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Fewest processes to train with: in a cluster training begins when so "
        "many have a node, and grows as more come. A step has the same examples, however many.",
    )
    max: int = Field(default=1, ge=1, le=1024, description="Most processes to train with.")


class HeadResources(ApiModel):
    """The pod that prepares the data and leads the others; in a cluster only."""

    cpu: Cpu = Field(default="1", description="CPUs that are reserved; more are used when free.")
    memory: Memory = Field(default="4Gi", description="Memory that is reserved, and the limit.")


class WorkerResources(ApiModel):
    """Each pod with one training process; in a cluster only."""

    cpu: Cpu = Field(default="1", description="CPUs that are reserved; more are used when free.")
    memory: Memory | None = Field(
        default=None,
        description="Memory that is reserved, and the limit; by default what the plan needs, and "
        "at least 4Gi.",
    )
    gpus: int = Field(default=0, ge=0, le=1, description="GPUs of each worker; the head has none.")


class Compute(ApiModel):
    """What the training runs on."""

    workers: Workers = Field(default_factory=Workers, description="Training processes.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: a GPU where there is one."
    )
    head: HeadResources = Field(
        default_factory=HeadResources,
        description="The pod that prepares the data and leads the others; in a cluster only.",
    )
    worker: WorkerResources = Field(
        default_factory=WorkerResources,
        description="Each pod with one training process; in a cluster only.",
    )
