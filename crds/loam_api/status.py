"""The status of a FineTuneJob: what `kubectl get` and kstatus read, written by the operator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

MAX_ATTEMPTS = 20
MAX_ADMISSIONS = 20
MAX_CONDITIONS = 16
MAX_RETRY_TOKENS = 20
MAX_MESSAGE_LENGTH = 1024
MAX_LOG_LENGTH = 4096
MAX_REVIEWED_ROWS = 500

Phase = Literal[
    "Pending",
    "Queued",
    "Preparing",
    "AwaitingReview",
    "Starting",
    "Training",
    "Finishing",
    "Succeeded",
    "Failed",
    "Suspended",
]

Word = Annotated[str, StringConstraints(max_length=64)]
Message = Annotated[str, StringConstraints(max_length=MAX_MESSAGE_LENGTH)]
Time = Annotated[str, StringConstraints(max_length=32)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
LargeCount = Annotated[int, Field(ge=0, le=2**53)]


class StatusModel(BaseModel):
    """Base of every status block: an unknown field is a newer writer's, so it is passed over."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )


class Condition(StatusModel):
    """One condition in the form of Kubernetes' own (kstatus: Ready, Reconciling, Stalled)."""

    type: Word = Field(description="Ready, Reconciling, Stalled, Complete, Failed, Validated, ...")
    status: Literal["True", "False", "Unknown"]
    reason: Word = Field(description="One word for programs.")
    message: Message = Field(default="", description="A sentence for people.")
    last_transition_time: Time = Field(description="When the status last changed, RFC 3339.")


class Progress(StatusModel):
    """How far the current step is."""

    summary: Word = Field(
        default="",
        description='Stage and share, e.g. "train 62%"; of training also step and latest loss.',
    )
    eta_seconds: Count = Field(default=0, description="Seconds left of this step; 0 if unknown.")


class Attempt(StatusModel):
    """One attempt at one step."""

    number: Count = Field(description="From 1; also counts those after suspend and retry.")
    step: Word
    uid: Word = Field(default="", description="Of its RayJob, once that was seen running.")
    head_uid: Word = Field(default="", description="Of its head pod, once that was seen running.")
    job_id: Word = Field(default="", description="Ray's name for its latest submission.")
    admissions: Count = Field(
        default=0, description="How often it was submitted: once, and after each preemption."
    )
    started_at: Time = Field(default="", description="RFC 3339.")
    ended_at: Time = Field(default="", description="Empty while it runs.")
    exit_code: Annotated[int, Field(ge=-1, le=255)] = Field(
        default=-1, description="-1 while it runs."
    )
    reason: Word = Field(default="", description="How it ended, in one word.")
    charged: bool = Field(default=False, description="Whether it counts for backoffLimit.")


class FailureLog(StatusModel):
    """The last lines of an attempt that failed, kept because its pods are gone."""

    attempt: Count = Field(description="Number of the attempt.")
    text: Annotated[str, StringConstraints(max_length=MAX_LOG_LENGTH)] = Field(
        description="By pod; what looks like a secret is masked."
    )


class Metrics(StatusModel):
    """The result in numbers, as the report gives them."""

    name: Word = Field(default="", description="Name of the metric, e.g. accuracy.")
    score: Annotated[float, Field(ge=-1e12, le=1e12)] = Field(description="Of the adapter.")
    best_baseline: Annotated[float, Field(ge=-1e12, le=1e12)] | None = Field(
        default=None, description="Of the best baseline."
    )


class Usage(StatusModel):
    """What the run has used, over all its starts."""

    teacher_requests: Count = Field(
        default=0, description="To teacher and judges, as the budgets count them."
    )
    teacher_tokens: LargeCount = Field(default=0, description="Of prompts and answers together.")
    teacher_cost: Word = Field(
        default="", description="Of these, with its unit; empty where prices are not known."
    )
    gpu_seconds: LargeCount = Field(
        default=0, description="GPUs of pods that had a node and had not ended, times seconds."
    )
    gpu_cost: Word = Field(
        default="", description="Of these, by the profile's price; empty where it has none."
    )
    counted_until: Time = Field(default="", description="To when gpuSeconds is, RFC 3339.")


class ProfileUse(StatusModel):
    """The rules that the job is under, as they were when it started."""

    name: Word = Field(description="Of the FineTuneProfile.")
    digest: Word = Field(description="SHA-256 of the copy in the job's ConfigMap.")


class Review(StatusModel):
    """What a person decided about the synthetic rows, and about which run's."""

    decision: Literal["approved", "rejected"] = Field(
        description="rejected: the rows named here, and rows like them, leave the set."
    )
    run_key: Word = Field(default="", description="Of the run whose rows they are.")
    rejected_rows: list[Word] = Field(
        default_factory=list, max_length=MAX_REVIEWED_ROWS, description="Row ids of the sample."
    )
    good_rows: list[Word] = Field(
        default_factory=list,
        max_length=MAX_REVIEWED_ROWS,
        description="Row ids that were marked good: rows nearest to them stay.",
    )
    by: Word = Field(default="", description="As who decided says it; not checked.")
    time: Time = Field(default="", description="When the decision was seen, RFC 3339.")


class FineTuneJobStatus(StatusModel):
    """What was observed."""

    observed_generation: LargeCount | None = Field(
        default=None, description="Generation of the spec that this status speaks of."
    )
    start_time: Time | None = Field(
        default=None, description="When the deadline's clock started; anew after suspend and retry."
    )
    completion_time: Time | None = Field(default=None, description="When the job ended.")
    phase: Phase | None = Field(default=None, description="Where the job is, in one word.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=MAX_CONDITIONS,
        description="One entry a type.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
    profile: ProfileUse | None = Field(
        default=None, description="The profile that the latest attempt started under."
    )
    method: Word | None = Field(default=None, description="The method that was chosen.")
    method_reason: Message | None = Field(default=None, description="Why it was chosen.")
    progress: Progress | None = Field(default=None, description="How far the current step is.")
    metrics: Metrics | None = Field(default=None, description="The result in numbers.")
    attempts: list[Attempt] = Field(
        default_factory=list, max_length=MAX_ATTEMPTS, description="The latest attempts."
    )
    failure_log: FailureLog | None = Field(
        default=None, description="Of the latest attempt that failed and left a log."
    )
    attempt: Count | None = Field(default=None, description="Number of the current attempt.")
    first_counted_attempt: Count | None = Field(
        default=None, description="Attempts from this one on count for backoffLimit."
    )
    run_key: Word | None = Field(
        default=None, description="Names the run's folder: output.uri/runs/<runKey>."
    )
    worker_memory: Word | None = Field(
        default=None, description="What a worker is given where the job does not say, e.g. 6Gi."
    )
    review: Review | None = Field(
        default=None, description="The human spot check, once it is decided."
    )
    retry_tokens: list[Word] = Field(
        default_factory=list,
        max_length=MAX_RETRY_TOKENS,
        description="Values of the annotation loam.dev/retry that were acted on.",
    )
    gpus: Word | None = Field(default=None, description="How many the current attempt asks for.")
    cost: Word | None = Field(
        default=None,
        description="Spent so far on teacher, judges and GPUs together, with its unit; by parts in "
        "usage.",
    )
    usage: Usage | None = Field(default=None, description="What was used so far, priced or not.")
