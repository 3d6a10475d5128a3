"""The `synthesis` block: who writes synthetic examples, how many, and which are kept."""

from __future__ import annotations

import re
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
from loam_api.status import MAX_REVIEWED_ROWS
from loam_api.teacher_prices import LIST_PRICES

Share = Annotated[float, Field(gt=0, le=1)]
MAX_BUDGET = 10**12
MAX_COST = 10**9
MAX_PRICE = 10**6

_LISTED = ", ".join(f"'{name}'" for name in LIST_PRICES)
# Over the place of an endpoint, such as self.openai.
PRICED_CEL = f"(has({{0}}.prices) || {{0}}.model in [{_LISTED}])"

# A limit may be lifted (0) or raised while the job runs, never lowered under what is spent.
_RAISED_ONLY = (
    "self.{0} == oldSelf.{0} || self.{0} == {1} || (oldSelf.{0} != {1} && self.{0} > oldSelf.{0})"
)


class Sampling(ApiModel):
    """How the teacher's tokens are drawn."""

    temperature: float = Field(default=1.0, ge=0, le=2, description="0 for the likeliest token.")
    top_k: int = Field(
        default=50, ge=0, le=1000, description="0 for no limit; not sent to chat endpoints."
    )
    top_p: float = Field(default=1.0, gt=0, le=1, description="1 for no limit.")
    max_tokens: int = Field(default=256, ge=1, le=32768, description="Most tokens of one answer.")


class TokenPrices(ApiModel):
    """What a million tokens cost, in the currency of `budget.maxCost`."""

    prompt: float = Field(ge=0, le=MAX_PRICE, description="Of the question.")
    completion: float = Field(
        ge=0, le=MAX_PRICE, description="Of the answer, the model's reasoning included."
    )


class OpenAITeacher(ApiModel):
    """An OpenAI-compatible endpoint."""

    rules = (
        Rule(
            cel="self.mode != 'batch' || self.endpoint == 'chat'",
            holds=lambda it: it.mode != "batch" or it.endpoint == "chat",
            message="mode batch asks the chat endpoint: endpoint must be chat",
            field="endpoint",
        ),
    )

    base_url: Endpoint = Field(alias="baseURL", description="Address that ends in /v1.")
    model: RequiredText = Field(description="Model name the endpoint knows.")
    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Where the key is; none for an endpoint that asks for none."
    )
    concurrency: int = Field(default=16, ge=1, le=512, description="Most requests open at once.")
    timeout_seconds: int = Field(default=120, ge=1, le=3600, description="For one answer.")
    endpoint: Literal["chat", "completions"] = Field(
        default="chat",
        description="completions: for a base model, which continues a text; for inContext.",
    )
    mode: Literal["online", "batch"] = Field(
        default="online",
        description="batch: through the provider's /v1/batches, where it offers them: cheaper, "
        "and answered within a day.",
    )
    prices: TokenPrices | None = Field(
        default=None,
        description="Prices of a million tokens; without them the list prices of well-known "
        "models, in US dollars, count.",
    )

    def find_prices(self) -> TokenPrices | None:
        """The prices given, else the list prices; None for a model that has none."""
        if self.prices is not None or self.model not in LIST_PRICES:
            return self.prices
        prompt, completion = LIST_PRICES[self.model]
        return TokenPrices(prompt=prompt, completion=completion)


def has_prices(openai: OpenAITeacher) -> bool:
    """Whether what it costs is known: its own prices, or list prices."""
    # By its fields alone: rules are also asked about manifests that are wrong elsewhere.
    return openai.prices is not None or openai.model in LIST_PRICES


def _asks_chat(synthesis: Synthesis) -> bool:
    asked = synthesis.judge.openai if synthesis.judge is not None else synthesis.teacher.openai
    return asked is not None and asked.endpoint == "chat"


def _is_priced(synthesis: Synthesis) -> bool:
    judge = synthesis.judge.openai if synthesis.judge is not None else None
    remote = [one for one in (synthesis.teacher.openai, judge) if one is not None]
    return bool(remote) and all(has_prices(one) for one in remote)


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


class Judge(ApiModel):
    """A model that judges synthetic rows in the place of the one that wrote them."""

    openai: OpenAITeacher = Field(description="Its OpenAI-compatible endpoint.")


class Budget(ApiModel):
    """A hard stop for all that a block asks; 0 for no limit."""

    rules = tuple(
        Rule(
            cel=_RAISED_ONLY.format(name, zero),
            message="a budget can be raised or lifted (0), not lowered",
            field=name,
        )
        for name, zero in (("maxRequests", "0"), ("maxTokens", "0"), ("maxCost", "0.0"))
    )

    max_requests: int = Field(default=0, ge=0, le=MAX_BUDGET, description="Requests, retries too.")
    max_tokens: int = Field(
        default=0, ge=0, le=MAX_BUDGET, description="Prompt and answer tokens together."
    )
    max_cost: float = Field(
        default=0,
        ge=0,
        le=MAX_COST,
        description="In the currency of the prices: those of `openai.prices`, which are of one "
        "currency in the whole job, or US dollars.",
    )


class SpotCheck(ApiModel):
    """A sample of the kept rows for a person to look at."""

    sample_size: int = Field(
        default=50, ge=1, le=MAX_REVIEWED_ROWS, description="Rows, by label and score in turn."
    )
    required: bool = Field(
        default=False,
        description="Hold the job, without a pod, until `loam approve` or `loam reject`.",
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
            cel="self.languages.all(code, code.matches('^[a-z]{2}$'))",
            holds=lambda it: all(re.fullmatch("[a-z]{2}", code) for code in it.languages),
            message="a language is named by its ISO 639-1 code: two lower-case letters, such as de",
            field="languages",
        ),
        Rule(
            cel="self.strategy != 'inContext' || self.languages.size() == 0",
            holds=lambda it: it.strategy != "inContext" or not it.languages,
            message="inContext goes on in the seeds' own language: use seeded or rationale",
            field="languages",
        ),
        Rule(
            cel="self.budget.maxCost == 0.0 || ((has(self.teacher.openai) || has(self.judge)) "
            f"&& (!has(self.teacher.openai) || {PRICED_CEL.format('self.teacher.openai')}) "
            f"&& (!has(self.judge) || {PRICED_CEL.format('self.judge.openai')}))",
            holds=lambda it: it.budget.max_cost == 0 or _is_priced(it),
            message="a budget in money needs a teacher or a judge of kind openai, and each of "
            "these one whose prices are known: give openai.prices",
            field="budget.maxCost",
        ),
        Rule(
            cel="self.onUntrustedFilter != 'judge' || has(self.judge)",
            holds=lambda it: it.on_untrusted_filter != "judge" or it.judge is not None,
            message="onUntrustedFilter judge needs a judge: give judge.openai",
            field="onUntrustedFilter",
        ),
        Rule(
            cel="!has(self.judge) || self.filters.consistency.enabled "
            "|| self.filters.unsafe.enabled",
            holds=lambda it: (
                it.judge is None or it.filters.consistency.enabled or it.filters.unsafe.enabled
            ),
            message="a judge judges labels, or what is unsafe: filters.consistency or "
            "filters.unsafe must be enabled",
            field="judge",
        ),
        Rule(
            cel="!self.filters.unsafe.enabled || (has(self.judge) "
            "? self.judge.openai.endpoint == 'chat' "
            ": has(self.teacher.openai) && self.teacher.openai.endpoint == 'chat')",
            holds=lambda it: not it.filters.unsafe.enabled or _asks_chat(it),
            message="whether a row is unsafe is asked of a model that follows instructions: give "
            "judge.openai, or a teacher of kind openai, with endpoint chat",
            field="filters.unsafe.enabled",
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
    judge: Judge | None = Field(
        default=None,
        description="Another model that judges the labels of classified rows, and with "
        "filters.unsafe whether rows of any task are harmful, within the same budget. It judges "
        "every label; with onUntrustedFilter: judge only where the model that wrote the rows is "
        "not trusted. None: the model that wrote them judges. In a cluster only with a teacher of "
        "kind openai.",
    )
    target_count: int = Field(ge=1, le=1_000_000, description="Synthetic rows to keep.")
    languages: dict[FieldName, Share] = Field(
        default_factory=dict,
        max_length=32,
        description="Languages to write in, each with its share, for cross-lingual transfer: "
        "{de: 0.5, fr: 0.5}, by ISO 639-1 code. Empty: the seeds' own. Not with inContext.",
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
        description="A hard stop for teacher and judge together.",
        json_schema_extra={MUTABLE: MAY_BE_RAISED},
    )
    annotation_price: float = Field(
        default=0,
        ge=0,
        le=MAX_PRICE,
        description="What a person would be paid for one row, in the currency of the teacher's "
        "prices; the report compares. 0 for no comparison.",
    )
    on_untrusted_filter: Literal["keep", "fail", "judge"] = Field(
        default="keep",
        description="What to do when the label-consistency filter is no better than the majority "
        "class on the seeds, or filters.unsafe finds the seeds themselves unsafe: keep the rows it "
        "would have judged, fail, or (of labels) measure `judge` in the same way and let it judge "
        "instead; if it is no better either, the rows are kept.",
    )
    spot_check: SpotCheck | None = Field(
        default=None,
        description="A sample for a person to look at: data/spot_check.csv and in the report.",
    )

    def list_endpoints(self) -> dict[str, OpenAITeacher]:
        """The endpoints that are asked, by their field of the spec; the teacher's first."""
        judge = self.judge.openai if self.judge is not None else None
        named = {"teacher": self.teacher.openai, "judge": judge}
        return {
            f"synthesis.{field}.openai": endpoint
            for field, endpoint in named.items()
            if endpoint is not None
        }
