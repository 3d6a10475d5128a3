"""The `compute` block: what the training runs on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from loam_api.base import ApiModel, Cpu, Memory, Name, Rule, SecretName


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
        description="Fewest processes to train with: a job that loses pods goes on with so many, "
        "and grows as others come. In a cluster it begins with the pods for which there is room, "
        "once others have waited for 30 s; a queue admits those of max together. A step has the "
        "same examples, however many.",
    )
    max: int = Field(default=1, ge=1, le=1024, description="Most processes to train with.")


class HeadResources(ApiModel):
    """The pod that prepares the data and leads the others; in a cluster only."""

    cpu: Cpu | None = Field(
        default=None,
        description="CPUs that are reserved; more are used when free. By default the profile's, "
        "else 1.",
    )
    memory: Memory | None = Field(
        default=None,
        description="Memory that is reserved, and the limit; by default the profile's, else 4Gi.",
    )


class WorkerResources(ApiModel):
    """Each pod with one training process; in a cluster only."""

    cpu: Cpu | None = Field(
        default=None,
        description="CPUs that are reserved; more are used when free. By default the profile's, "
        "else 1.",
    )
    memory: Memory | None = Field(
        default=None,
        description="Memory that is reserved, and the limit; by default what the plan needs, and "
        "at least 4Gi.",
    )
    gpus: int = Field(default=0, ge=0, le=1, description="GPUs of each worker; the head has none.")


class Compute(ApiModel):
    """What the training runs on."""

    profile: Name | None = Field(
        default=None,
        description="In a cluster: the FineTuneProfile whose rules hold; by default the one that "
        "says so for the namespace.",
    )
    service_account_name: SecretName | None = Field(
        default=None,
        description="In a cluster: a ServiceAccount of the namespace that head and workers run as, "
        "for storage that knows who they are (workload identity); by default the head has one of "
        "the job's own, which may do nothing but tell its progress.",
    )
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
