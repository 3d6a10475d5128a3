"""The `synthesis` block: who writes synthetic examples, how many, and which are kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from loam_api.base import (
    MAY_BE_RAISED,
    MUTABLE,
    ApiModel,
    Endpoint,
    FieldName,
    RequiredText,
    Rule,
    SecretKeyRef,
)
from loam_api.filters_block import Filters

MAX_BUDGET = 10**12
Share = Annotated[float, Field(gt=0, le=1)]

# A limit may be lifted (0) or raised while the job runs, never lowered under what is spent.
_RAISED_ONLY = (
    "self.{0} == oldSelf.{0} || self.{0} == 0 || (oldSelf.{0} != 0 && self.{0} > oldSelf.{0})"
)


class Sampling(ApiModel):
    """How the teacher's tokens are drawn."""

    temperature: float = Field(default=1.0, ge=0, le=2, description="0 for the likeliest token.")
    top_k: int = Field(default=50, ge=0, le=1000, description="0 for no limit; self teacher only.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="1 for no limit.")
    max_tokens: int = Field(default=256, ge=1, le=32768, description="Most tokens of one answer.")


class OpenAITeacher(ApiModel):
    """An OpenAI-compatible chat endpoint."""

    base_url: Endpoint = Field(alias="baseURL", description="Address that ends in /v1.")
    model: RequiredText = Field(description="Model name the endpoint knows.")
    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Where the key is; none for an endpoint that asks for none."
    )
    concurrency: int = Field(default=16, ge=1, le=512, description="Most requests open at once.")
    timeout_seconds: int = Field(default=120, ge=1, le=3600, description="For one answer.")


class Teacher(ApiModel):
    """Who writes the synthetic examples."""

    rules = (
        Rule(
            cel="self.kind != 'openai' || has(self.openai)",
            holds=lambda it: it.kind != "openai" or it.openai is not None,
            message="kind openai needs the block openai, with baseURL and model",
            field="openai",
        ),
        Rule(
            cel="self.kind == 'openai' || !has(self.openai)",
            holds=lambda it: it.kind == "openai" or it.openai is None,
            message="the block openai is read only with kind: openai",
            field="kind",
        ),
    )

    kind: Literal["self", "openai"] = Field(
        default="self", description="self: the base model. openai: an OpenAI-compatible endpoint."
    )
    openai: OpenAITeacher | None = Field(
        default=None, description="The endpoint, with kind: openai."
    )


class Budget(ApiModel):
    """A hard stop for the teacher; 0 for no limit."""

    rules = tuple(
        Rule(
            cel=_RAISED_ONLY.format(name),
            message="a budget can be raised or lifted (0), not lowered",
            field=name,
        )
        for name in ("maxRequests", "maxTokens")
    )

    max_requests: int = Field(default=0, ge=0, le=MAX_BUDGET, description="Requests, retries too.")
    max_tokens: int = Field(
        default=0, ge=0, le=MAX_BUDGET, description="Prompt and answer tokens together."
    )


class Synthesis(ApiModel):
    """How synthetic examples are made and which are kept."""

    rules = (
        Rule(
            cel="self.budget.maxTokens == 0 || self.budget.maxTokens >= self.sampling.maxTokens",
            holds=lambda it: (
                it.budget.max_tokens == 0 or it.budget.max_tokens >= it.sampling.max_tokens
            ),
            message="a budget below sampling.maxTokens allows no request at all",
            field="budget.maxTokens",
        ),
        Rule(
            cel="self.strategy != 'inContext' || self.languages.size() == 0",
            holds=lambda it: it.strategy != "inContext" or not it.languages,
            message="inContext goes on in the seeds' own language: use seeded or rationale",
            field="languages",
        ),
    )

    strategy: Literal["seeded", "inContext", "rationale"] = Field(
        default="seeded",
        description="seeded: analyse the seeds, ask the teacher for variations (any task). "
        "inContext: the model continues a list of examples, class by class (classification). "
        "rationale: the teacher explains each answer step by step (tasks with an input).",
    )
    teacher: Teacher = Field(
        default_factory=Teacher, description="Who writes the synthetic examples."
    )
    target_count: int = Field(ge=1, le=1_000_000, description="Synthetic rows to keep.")
    languages: dict[FieldName, Share] = Field(
        default_factory=dict,
        max_length=32,
        description="Languages to write in, each with its share, for cross-lingual transfer: "
        "{German: 0.5, French: 0.5}. Empty: the seeds' own. Not with inContext.",
    )
    quality_threshold: float = Field(
        default=0.85, ge=0, le=1, description="Rows that score less are rejected."
    )
    diversity_weight: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="How much variety counts against quality in the choice.",
    )
    filters: Filters = Field(
        default_factory=Filters,
        description="What is dropped beside exact duplicates and rows that would give a held-out "
        "row away.",
    )
    sampling: Sampling = Field(
        default_factory=Sampling, description="How the teacher's tokens are drawn."
    )
    budget: Budget = Field(
        default_factory=Budget,
        description="A hard stop for the teacher.",
        json_schema_extra={MUTABLE: MAY_BE_RAISED},
    )
    on_untrusted_filter: Literal["keep", "fail"] = Field(
        default="keep",
        description="What to do when the label-consistency filter is no better than the majority "
        "class on the seeds: keep the rows it would have judged, or fail.",
    )
