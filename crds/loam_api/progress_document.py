"""What an attempt's head pod tells the operator: one small JSON document in a ConfigMap.

The runtime writes it and the operator reads it as hostile input: whatever runs in the head pod
can write there, so that a document is taken whole, within its bounds, or not at all.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from loam_api.status import Count, LargeCount, Message, Metrics, Word

MAX_DOCUMENT_BYTES = 16 * 1024
MAX_MEMORY_BYTES = 2**50

Stage = Literal[
    "download",
    "split",
    "synthesize",
    "review",
    "plan",
    "baselines",
    "train",
    "evaluate",
    "judge",
    "report",
    "publish",
]
Seconds = Annotated[float, Field(ge=0, le=2**31)]
Summary = Annotated[str, StringConstraints(max_length=64)]
RunKey = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{16})?$")]


def name_progress_key(attempt: int) -> str:
    """Under which key of the job's progress ConfigMap an attempt's document stands."""
    return f"a{attempt}.json"


class _Strict(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
    )


class ResultDocument(_Strict):
    """How the attempt ended, by the runtime's own account.

    Attributes:
        exit_code: of `loam`; 0 says that the step is done.
        message: what happened and what to do, for a person.
        run_key: of the run that the inputs and the spec make.
        is_published: there is nothing left to do: the run's adapter is in the output's store.
        cost: what the teacher has cost, with its currency; "" where prices are not known.
        teacher_requests, teacher_tokens: that the run's teacher was asked for, over all starts;
            0 where none was.
        is_reviewed: a person has decided about this run's rows before.
        worker_memory_bytes: what a training worker needs by the plan; 0 where unknown.
    """

    exit_code: int = Field(ge=0, le=255)
    message: Message = ""
    run_key: RunKey = ""
    is_published: bool = False
    is_reviewed: bool = False
    worker_memory_bytes: int = Field(default=0, ge=0, le=MAX_MEMORY_BYTES)
    cost: Word = ""
    teacher_requests: Count = 0
    teacher_tokens: LargeCount = 0
    method: Word = ""
    method_reason: Message = ""
    metrics: Metrics | None = None


class ProgressDocument(_Strict):
    """How far an attempt is.

    Attributes:
        attempt: number of the attempt that wrote it.
        job_id: Ray's name of the submission that wrote it: a queue that takes the pods away and
            gives others begins a new one under the same attempt. "" where it was not told.
        stage: of the pipeline; None before the first.
        summary: stage and share, e.g. "train 62%, step 120 of 190, loss 0.41".
        eta_seconds: left of the stage; 0 where unknown.
        download_seconds, checkpoint_seconds: for which the submission's training has waited for its
            inputs and for its checkpoints so far; both only grow. What the stage `download` takes
            is not among them.
        result: once the attempt has ended.
    """

    attempt: int = Field(ge=1, le=9999)
    job_id: Word = ""
    stage: Stage | None = None
    summary: Summary = ""
    eta_seconds: int = Field(default=0, ge=0, le=2**31 - 1)
    download_seconds: Seconds = 0.0
    checkpoint_seconds: Seconds = 0.0
    result: ResultDocument | None = None

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True)


def parse_progress(text: str, attempt: int) -> ProgressDocument | None:
    """The document of this attempt; None for anything that is not exactly one."""
    if len(text.encode("utf-8", "replace")) > MAX_DOCUMENT_BYTES:
        return None
    try:
        document = ProgressDocument.model_validate_json(text, by_alias=True, by_name=False)
    except (ValidationError, ValueError, RecursionError):
        return None
    return document if document.attempt == attempt else None
