"""The `evaluation` block: what the result is measured against, and who judges its answers."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from loam_api.base import MAY_BE_RAISED, MUTABLE, ApiModel, LongText, Rule
from loam_api.synthesis_block import PRICED_CEL, Budget, OpenAITeacher, has_prices

Baseline = Literal["majority", "zeroShot", "inContext"]


class AnswerJudge(ApiModel):
    """A remote chat model that compares the fine-tuned model's answers with the best baseline's."""

    rules = (
        Rule(
            cel="self.openai.endpoint == 'chat'",
            holds=lambda it: it.openai.endpoint == "chat",
            message="answers are compared by a model that follows instructions: endpoint must be "
            "chat",
            field="openai.endpoint",
        ),
        Rule(
            cel="self.budget.maxTokens == 0 || self.budget.maxTokens >= self.maxTokens",
            holds=lambda it: it.budget.max_tokens == 0 or it.budget.max_tokens >= it.max_tokens,
            message="a budget below evaluation.judge.maxTokens allows no request at all",
            field="budget.maxTokens",
        ),
        Rule(
            cel=f"self.budget.maxCost == 0.0 || {PRICED_CEL.format('self.openai')}",
            holds=lambda it: it.budget.max_cost == 0 or has_prices(it.openai),
            message="a budget in money needs a judge whose prices are known: give openai.prices",
            field="budget.maxCost",
        ),
    )

    openai: OpenAITeacher = Field(description="Its OpenAI-compatible endpoint.")
    criteria: LongText = Field(
        default="", description="What makes an answer better; empty for the task's usual criteria."
    )
    max_rows: int = Field(
        default=200,
        ge=1,
        le=10_000,
        description="Most test rows to judge, a sample drawn by training.seed; each takes two "
        "requests.",
    )
    max_tokens: int = Field(
        default=1024,
        ge=1,
        le=32768,
        description="Most tokens of one verdict; a model that thinks first needs room for it.",
    )
    budget: Budget = Field(
        default_factory=Budget,
        description="A hard stop for this judge alone; what was judged by then counts.",
        json_schema_extra={MUTABLE: MAY_BE_RAISED},
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
        Rule(
            cel="!has(self.judge) || self.baselines.exists(b, b != 'majority')",
            holds=lambda it: it.judge is None or any(one != "majority" for one in it.baselines),
            message="a judge compares with the base model's own answers: baselines must name "
            "zeroShot or inContext",
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
    judge: AnswerJudge | None = Field(
        default=None,
        description="A chat model that compares free-text answers with the best baseline's, in "
        "both orders, once it has told true answers from wrong ones on this job's rows; its "
        "result stands beside the verdict. For generation, extraction and summarization.",
    )
