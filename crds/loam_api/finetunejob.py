"""The FineTuneJob: what a user writes, as pydantic models. The one source of truth of the API.

Field names are snake_case in Python and camelCase in YAML. Every model refuses unknown
fields. A field exists here only once something acts on it. The larger blocks have files of
their own and are re-exported here.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from loam_api.base import ApiModel, Name, OutputUri, Rule, SecretKeyRef, ShortText, Uri
from loam_api.data_block import (
    DataSource,
    DataSpec,
    FieldMapping,
    FileFormat,
    RowFormat,
    Task,
    Template,
    ValidationSplit,
)
from loam_api.status import FineTuneJobStatus
from loam_api.synthesis_block import Budget, OpenAITeacher, Sampling, Synthesis, Teacher
from loam_api.training_block import (
    Checkpointing,
    EarlyStopping,
    FullSettings,
    LoraSettings,
    Method,
    Training,
)

__all__ = [
    "API_GROUP",
    "API_VERSION",
    "ApiModel",
    "Baseline",
    "Budget",
    "Checkpointing",
    "Compute",
    "DataSource",
    "DataSpec",
    "EarlyStopping",
    "Evaluation",
    "FieldMapping",
    "FileFormat",
    "FineTuneJob",
    "FineTuneJobSpec",
    "FineTuneJobStatus",
    "FullSettings",
    "LoraSettings",
    "Method",
    "ModelSpec",
    "ObjectMeta",
    "OpenAITeacher",
    "Output",
    "RowFormat",
    "Sampling",
    "SecretKeyRef",
    "Synthesis",
    "Task",
    "Teacher",
    "Template",
    "Training",
    "ValidationSplit",
    "Workers",
]

API_GROUP = "loam.dev"
API_VERSION = "v1alpha1"

Baseline = Literal["majority", "zeroShot", "inContext"]


class ModelSpec(ApiModel):
    """The base model."""

    uri: Uri = Field(
        description="A folder of safetensors or one .gguf file: s3://, file:// or hf://. "
        "A relative file:// path starts at the manifest's folder."
    )
    revision: ShortText = Field(
        default="", description="Branch, tag or commit of an hf:// model; empty for the default."
    )


class Evaluation(ApiModel):
    """What the result is measured against."""

    rules = (
        Rule(
            cel="self.baselines.all(a, self.baselines.exists_one(b, b == a))",
            holds=lambda it: len(set(it.baselines)) == len(it.baselines),
            message="each baseline may be named once",
            field="baselines",
        ),
    )

    baselines: list[Baseline] = Field(
        default_factory=lambda: list(get_args(Baseline)),
        max_length=3,
        description="What the verdict compares with: the best of these.",
    )
    in_context_shots: int = Field(
        default=4, ge=1, le=64, description="Examples in the prompt (per class)."
    )
    max_new_tokens: int = Field(default=128, ge=1, le=8192, description="For one generated answer.")


class Output(ApiModel):
    """Where the adapter, the report and everything else of the run go."""

    uri: OutputUri = Field(description="s3:// or file:// prefix; each run gets a folder under it.")
    merge: bool = Field(default=False, description="Also publish the base with the adapter merged.")


class Workers(ApiModel):
    """Training processes."""

    rules = (
        Rule(
            cel="self.min == self.max",
            holds=lambda it: it.min == it.max,
            message="min and max must be equal: elastic workers are not built yet",
            field="max",
        ),
    )

    min: int = Field(default=1, ge=1, le=1024, description="Fewest processes to train with.")
    max: int = Field(default=1, ge=1, le=1024, description="Most processes to train with.")


class Compute(ApiModel):
    """What the training runs on."""

    workers: Workers = Field(default_factory=Workers, description="Training processes.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: a GPU where there is one."
    )


class FineTuneJobSpec(ApiModel):
    """The desired adapter."""

    rules = (
        Rule(
            cel="!has(self.synthesis) || self.synthesis.strategy != 'inContext' "
            "|| self.data.task == 'classification'",
            holds=lambda it: (
                it.synthesis is None
                or it.synthesis.strategy != "inContext"
                or it.data.task == "classification"
            ),
            message="strategy inContext goes class by class: it needs data.task: classification",
            field="synthesis.strategy",
        ),
    )

    model: ModelSpec = Field(description="The base model.")
    data: DataSpec = Field(description="The examples and how they are read.")
    synthesis: Synthesis | None = Field(
        default=None, description="Synthetic examples; without this block none are made."
    )
    training: Training = Field(default_factory=Training, description="How the model is trained.")
    evaluation: Evaluation = Field(
        default_factory=Evaluation, description="What the result is measured against."
    )
    output: Output = Field(description="Where the results go.")
    compute: Compute = Field(default_factory=Compute, description="What the training runs on.")


class ObjectMeta(BaseModel):
    """The part of Kubernetes' metadata that Loam reads; the rest is the API server's."""

    model_config = ConfigDict(populate_by_name=True, extra="allow", frozen=True)

    name: Name = Field(description="At most 34 characters: names of children are built from it.")
    namespace: str = Field(default="default", max_length=63)


class FineTuneJob(BaseModel):
    """One fine-tuning run, from seeds to a published adapter."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )

    api_version: Literal["loam.dev/v1alpha1"]
    kind: Literal["FineTuneJob"]
    metadata: ObjectMeta
    spec: FineTuneJobSpec = Field(description="The desired adapter.")
    status: FineTuneJobStatus | None = Field(
        default=None, description="What was observed; written by the operator."
    )
