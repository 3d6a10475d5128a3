"""The FineTuneJob: what a user writes, as pydantic models. The one source of truth of the API.

Field names are snake_case in Python and camelCase in YAML. Every model refuses unknown
fields. A field exists here only once something acts on it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

API_GROUP = "loam.dev"
API_VERSION = "v1alpha1"

Uri = Annotated[str, StringConstraints(pattern=r"^(s3|file|hf)://.+", max_length=1024)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=34)]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
ShortText = Annotated[str, StringConstraints(max_length=512)]
LongText = Annotated[str, StringConstraints(max_length=8192)]

Task = Literal["classification", "generation", "extraction", "summarization", "text"]
RowFormat = Literal["auto", "textLabel", "promptCompletion", "chat", "chosenRejected", "text"]
FileFormat = Literal["auto", "jsonl", "csv", "parquet"]
Method = Literal["auto", "full", "lora", "qlora"]


class ApiModel(BaseModel):
    """Base of every block: camelCase in YAML, unknown fields refused, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )


class SecretKeyRef(ApiModel):
    """One key of a Secret in the job's own namespace; on a laptop, an environment variable."""

    name: Name = Field(description="Name of the Secret.")
    key: FieldName = Field(
        description="Key inside the Secret. On a laptop, the environment variable of this name."
    )


class ModelSpec(ApiModel):
    """The base model."""

    uri: Uri = Field(
        description="A folder of safetensors or one .gguf file: s3://, file:// or hf://. "
        "A relative file:// path starts at the manifest's folder."
    )
    revision: ShortText = Field(
        default="", description="Branch, tag or commit of an hf:// model; empty for the default."
    )


class FieldMapping(ApiModel):
    """Which columns of the files hold what; an empty name means the usual ones are looked for."""

    text: str = Field(default="", max_length=128, description="Column of the input text.")
    label: str = Field(default="", max_length=128, description="Column of the label.")
    prompt: str = Field(default="", max_length=128, description="Column of the prompt.")
    completion: str = Field(default="", max_length=128, description="Column of the completion.")
    messages: str = Field(default="", max_length=128, description="Column of the chat messages.")
    chosen: str = Field(default="", max_length=128, description="Column of the preferred answer.")
    rejected: str = Field(default="", max_length=128, description="Column of the refused answer.")
    group: str = Field(
        default="",
        max_length=128,
        description="Column that names a group (a document, a customer). Rows of one group "
        "never fall on both sides of a split.",
    )


class DataSource(ApiModel):
    """Rows of one or several files."""

    uri: Uri = Field(description="A file, or a folder whose data files are all read.")
    file_format: FileFormat = Field(default="auto", description="auto goes by the file's ending.")


class ValidationSplit(ApiModel):
    """Where the rows that steer early stopping come from."""

    mode: Literal["auto", "none", "fraction", "uri"] = Field(
        default="auto",
        description="auto: a stratified 20 % where every class has at least 10 rows, else none.",
    )
    fraction: float = Field(default=0.2, gt=0, lt=0.9, description="Share of the seeds (fraction).")
    uri: str = Field(default="", max_length=1024, description="A file of its own (uri).")


class Template(ApiModel):
    """The one prompt contract: the same wording in synthesis, training, evaluation and serving."""

    system: LongText = Field(default="", description="System prompt; empty for none.")
    prompt: LongText = Field(
        default="",
        description="Wording around the input, with the place holders {input}, {labels} and "
        "{description}; empty for the task's default.",
    )
    labels: dict[FieldName, ShortText] = Field(
        default_factory=dict,
        max_length=256,
        description="What the model writes for each label; a label not listed is written as it is.",
    )


class DataSpec(ApiModel):
    """The examples and how they are read."""

    seeds: DataSource = Field(description="The examples to start from.")
    test: DataSource | None = Field(
        default=None,
        description="Held-out rows for the verdict. Without it, 30 % of the seeds are held out "
        "where there are enough.",
    )
    validation: ValidationSplit = Field(default_factory=ValidationSplit)
    task: Task = Field(description="What the model learns to do.")
    row_format: RowFormat = Field(default="auto", description="auto goes by the columns present.")
    fields: FieldMapping = Field(default_factory=FieldMapping)
    template: Template = Field(default_factory=Template)
    description: LongText = Field(default="", description="The task in a sentence or two.")
    domain_constraints: list[ShortText] = Field(
        default_factory=list, max_length=64, description="What every synthetic example must respect."
    )
    on_bad_row: Literal["fail", "skip"] = Field(
        default="fail", description="skip drops bad rows and reports how many, and why."
    )
    on_conflict: Literal["fail", "drop", "keep"] = Field(
        default="drop", description="What becomes of equal inputs with different labels."
    )


class Sampling(ApiModel):
    """How the teacher's tokens are drawn."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    top_k: int = Field(default=50, ge=0, le=1000, description="0 for no limit; self teacher only.")
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=256, ge=1, le=32768, description="Most tokens of one answer.")


class OpenAITeacher(ApiModel):
    """An OpenAI-compatible chat endpoint."""

    base_url: Annotated[str, StringConstraints(pattern=r"^https?://.+", max_length=512)] = Field(
        alias="baseURL", description="Address that ends in /v1."
    )
    model: ShortText = Field(min_length=1, description="Model name the endpoint knows.")
    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Where the key is; none for an endpoint that asks for none."
    )
    concurrency: int = Field(default=16, ge=1, le=512, description="Most requests open at once.")
    timeout_seconds: int = Field(default=120, ge=1, le=3600, description="For one answer.")


class Teacher(ApiModel):
    """Who writes the synthetic examples."""

    kind: Literal["self", "openai"] = Field(
        default="self", description="self: the base model. openai: an OpenAI-compatible endpoint."
    )
    openai: OpenAITeacher | None = None


class Budget(ApiModel):
    """A hard stop for the teacher; 0 for no limit."""

    max_requests: int = Field(default=0, ge=0)
    max_tokens: int = Field(default=0, ge=0, description="Prompt and answer tokens together.")


class Synthesis(ApiModel):
    """How synthetic examples are made and which are kept."""

    strategy: Literal["seeded", "inContext"] = Field(
        default="seeded",
        description="seeded: analyse the seeds, ask the teacher for variations (any task). "
        "inContext: the model continues a list of examples, class by class (classification).",
    )
    teacher: Teacher = Field(default_factory=Teacher)
    target_count: int = Field(ge=1, le=1_000_000, description="Synthetic rows to keep.")
    quality_threshold: float = Field(default=0.85, ge=0, le=1)
    diversity_weight: float = Field(default=0.3, ge=0, le=1)
    sampling: Sampling = Field(default_factory=Sampling)
    budget: Budget = Field(default_factory=Budget)
    on_untrusted_filter: Literal["keep", "fail"] = Field(
        default="keep",
        description="What to do when the label-consistency filter is no better than the majority "
        "class on the seeds: keep the rows it would have judged, or fail.",
    )


class LoraSettings(ApiModel):
    """Low-rank adaptation."""

    rank: int = Field(default=0, ge=0, le=512, description="0: by the number of rows.")
    alpha: int = Field(default=0, ge=0, le=4096, description="0: four times the rank.")
    dropout: float = Field(default=0.1, ge=0, lt=1)
    target_modules: list[FieldName] = Field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"], min_length=1, max_length=32
    )


class FullSettings(ApiModel):
    """Full fine-tuning."""

    sharding: Literal["none", "fullShard"] = Field(
        default="none", description="fullShard: FSDP2, parameters spread over the workers."
    )


class EarlyStopping(ApiModel):
    """Stop when the validation loss no longer falls; needs a validation set."""

    enabled: bool = True
    patience: int = Field(default=2, ge=1, le=100, description="Evaluations without improvement.")


class Checkpointing(ApiModel):
    """Periodic checkpoints to the run's storage."""

    every_seconds: int = Field(default=300, ge=0, description="0: at every optimizer step.")
    keep_last: int = Field(default=2, ge=1, le=100)


class Training(ApiModel):
    """How the model is trained. 0 means: chosen by the plan."""

    method: Method = "auto"
    lora: LoraSettings = Field(default_factory=LoraSettings)
    full: FullSettings = Field(default_factory=FullSettings)
    learning_rate: float = Field(default=0, ge=0, le=1, description="0: 2e-4 for LoRA, 2e-5 full.")
    epochs: float = Field(default=0, ge=0, le=1000, description="0: by the number of rows.")
    global_batch: int = Field(default=16, ge=1, le=65536, description="Examples per optimizer step.")
    micro_batch: int = Field(default=0, ge=0, le=4096, description="Examples at once per worker.")
    max_sequence_length: int = Field(default=0, ge=0, le=1_048_576, description="Tokens.")
    on_too_long: Literal["fail", "drop", "truncate"] = Field(
        default="fail",
        description="A row over maxSequenceLength: truncate shortens the prompt, never the answer.",
    )
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    early_stopping: EarlyStopping = Field(default_factory=EarlyStopping)
    checkpoint: Checkpointing = Field(default_factory=Checkpointing)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)


class Evaluation(ApiModel):
    """What the result is measured against."""

    baselines: list[Literal["majority", "zeroShot", "inContext"]] = Field(
        default_factory=lambda: ["majority", "zeroShot", "inContext"], max_length=3
    )
    in_context_shots: int = Field(default=4, ge=1, le=64, description="Examples (per class).")
    max_new_tokens: int = Field(default=128, ge=1, le=8192, description="For one generated answer.")


class Output(ApiModel):
    """Where the adapter, the report and everything else of the run go."""

    uri: Uri = Field(description="s3:// or file:// prefix; each run gets a folder under it.")
    merge: bool = Field(default=False, description="Also publish the base with the adapter merged.")


class Workers(ApiModel):
    """Training processes."""

    min: int = Field(default=1, ge=1, le=1024)
    max: int = Field(default=1, ge=1, le=1024)

    @model_validator(mode="after")
    def _check_fixed_size(self) -> Workers:
        if self.min != self.max:
            raise ValueError("min and max must be equal: elastic workers are not built yet")
        return self


class Compute(ApiModel):
    """What the training runs on."""

    workers: Workers = Field(default_factory=Workers)
    device: Literal["auto", "cpu", "cuda"] = "auto"


class FineTuneJobSpec(ApiModel):
    """The desired adapter."""

    model: ModelSpec
    data: DataSpec
    synthesis: Synthesis | None = None
    training: Training = Field(default_factory=Training)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    output: Output
    compute: Compute = Field(default_factory=Compute)


class ObjectMeta(BaseModel):
    """The part of Kubernetes' metadata that Loam reads; the rest is the API server's."""

    model_config = ConfigDict(populate_by_name=True, extra="allow", frozen=True)

    name: Name
    namespace: str = Field(default="default", max_length=63)


class FineTuneJob(BaseModel):
    """One fine-tuning run, from seeds to a published adapter."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )

    api_version: Literal["loam.dev/v1alpha1"]
    kind: Literal["FineTuneJob"]
    metadata: ObjectMeta
    spec: FineTuneJobSpec
    status: dict | None = None
