"""The FineTuneJob: what a user writes, as pydantic models. The one source of truth of the API.

Field names are snake_case in Python and camelCase in YAML. Every model refuses unknown
fields. A field exists here only once something acts on it. The larger blocks have files of
their own and are re-exported here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from loam_api.base import (
    MAY_CHANGE,
    MUTABLE,
    ApiModel,
    Name,
    OutputUri,
    Rule,
    SecretKeyRef,
    SecretRef,
    ShortText,
    Uri,
)
from loam_api.compute_block import Compute, HeadResources, WorkerResources, Workers
from loam_api.data_block import (
    FREE_TEXT_TASKS,
    DataSource,
    DataSpec,
    FieldMapping,
    FileFormat,
    RowFormat,
    Task,
    Template,
    ValidationSplit,
)
from loam_api.evaluation_block import AnswerJudge, Baseline, Evaluation
from loam_api.status import FineTuneJobStatus
from loam_api.synthesis_block import (
    Budget,
    Judge,
    OpenAITeacher,
    Sampling,
    SpotCheck,
    Synthesis,
    Teacher,
)
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
    "AnswerJudge",
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
    "HeadResources",
    "Judge",
    "LoraSettings",
    "Method",
    "ModelSpec",
    "ObjectMeta",
    "OpenAITeacher",
    "Output",
    "RowFormat",
    "Sampling",
    "SecretKeyRef",
    "SecretRef",
    "SpotCheck",
    "Synthesis",
    "Task",
    "Teacher",
    "Template",
    "Training",
    "ValidationSplit",
    "WorkerResources",
    "Workers",
]

API_GROUP = "loam.dev"
API_VERSION = "v1alpha1"


class ModelSpec(ApiModel):
    """The base model."""

    uri: Uri = Field(
        description="A folder of safetensors or one .gguf file: s3://, file:// or hf://. "
        "A relative file:// path starts at the manifest's folder."
    )
    revision: ShortText = Field(
        default="", description="Branch, tag or commit of an hf:// model; empty for the default."
    )
    secret_ref: SecretRef | None = Field(
        default=None,
        description="For an hf:// model that asks for a token: HF_TOKEN. On a laptop, the "
        "environment variable of this name.",
    )


class Output(ApiModel):
    """Where the adapter, the report and everything else of the run go."""

    uri: OutputUri = Field(description="s3:// or file:// prefix; each run gets a folder under it.")
    secret_ref: SecretRef | None = Field(
        default=None,
        description="For every s3:// address of the job: AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY; where they are needed, AWS_ENDPOINT_URL, AWS_REGION and "
        "AWS_SESSION_TOKEN. On a laptop, the environment variables of these names.",
    )
    merge: bool = Field(default=False, description="Also publish the base with the adapter merged.")


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
        Rule(
            cel="!has(self.synthesis) || !has(self.synthesis.judge) "
            "|| self.data.task == 'classification' || self.synthesis.filters.unsafe.enabled",
            holds=lambda it: (
                it.synthesis is None
                or it.synthesis.judge is None
                or it.data.task == "classification"
                or it.synthesis.filters.unsafe.enabled
            ),
            message="a judge judges labels, or what is unsafe: it needs data.task: classification "
            "or synthesis.filters.unsafe",
            field="synthesis.judge",
        ),
        Rule(
            cel=f"!has(self.evaluation.judge) || self.data.task in {list(FREE_TEXT_TASKS)}",
            holds=lambda it: it.evaluation.judge is None or it.data.task in FREE_TEXT_TASKS,
            message="labels and plain text are measured without a judge: evaluation.judge is for "
            f"data.task {', '.join(FREE_TEXT_TASKS[:-1])} or {FREE_TEXT_TASKS[-1]}",
            field="evaluation.judge",
        ),
        Rule(
            cel="self.training.full.sharding == 'none' "
            "|| self.compute.workers.min == self.compute.workers.max",
            holds=lambda it: (
                it.training.full.sharding == "none"
                or it.compute.workers.min == it.compute.workers.max
            ),
            message="shards are as large as there are few workers: with training.full.sharding "
            "compute.workers.min and max must be equal",
            field="compute.workers.min",
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
    suspend: bool = Field(
        default=False,
        description="In a cluster: true gives all pods back, false goes on from the last "
        "checkpoint.",
        json_schema_extra={MUTABLE: MAY_CHANGE},
    )
    backoff_limit: int = Field(
        default=3,
        ge=0,
        le=8,
        description="In a cluster: failures that are tried again. Lost machines do not count.",
        json_schema_extra={MUTABLE: MAY_CHANGE},
    )
    active_deadline_seconds: int = Field(
        default=0,
        ge=0,
        le=31_536_000,
        description="In a cluster: the job fails after this time, counted anew after suspend and "
        "retry; 0 for no deadline.",
        json_schema_extra={MUTABLE: MAY_CHANGE},
    )
    cluster_ttl_seconds: int = Field(
        default=3600,
        ge=0,
        le=31_536_000,
        alias="clusterTTLSeconds",
        description="In a cluster: what the job created is deleted this long after its end; the "
        "job itself stays.",
        json_schema_extra={MUTABLE: MAY_CHANGE},
    )

    @property
    def rationale_form(self) -> Literal["multiTask", "prefix", "none"]:
        """How rationales are taught: `training.rationale`, auto resolved."""
        if self.training.rationale != "auto":
            return self.training.rationale
        return "multiTask" if self._writes_rationales else "none"

    @property
    def explains_seeds(self) -> bool:
        """Whether the teacher writes rationales for the training rows too: they are taught."""
        return self._writes_rationales and self.rationale_form != "none"

    @property
    def _writes_rationales(self) -> bool:
        return self.synthesis is not None and self.synthesis.strategy == "rationale"


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
