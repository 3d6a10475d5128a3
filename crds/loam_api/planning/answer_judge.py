"""Requests, tokens and money that the judge of answers will cost at most, before it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loam_api.planning.facts import DataFacts

if TYPE_CHECKING:
    from loam_api.evaluation_block import Evaluation

ORDERS = 2  # each pair is shown in both
# Test rows on which the judge is measured before it is believed. With 20, one that only guesses
# passes once in 48 times, and one that is right nine times in ten does 99 times in 100.
MEASURED_ROWS = 20

_UNKNOWN_ROW_TOKENS = 64
_INSTRUCTION_TOKENS = 300
_VERDICT_TOKENS = 80  # a sentence and the choice; a model that thinks first writes more
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class AnswerJudgeEstimate:
    """The most that the judge of answers is asked.

    Attributes:
        model: its name.
        requests, tokens: of measuring it and of all pairs in both orders.
        is_capped: the budget may end it before.
        cost: money for all of it; None where its prices are not known.
        currency: "USD" where list prices count, "" for that of the job's own prices.
    """

    model: str
    requests: int
    tokens: int
    is_capped: bool
    cost: float | None
    currency: str


def estimate_answer_judge(evaluation: Evaluation, data: DataFacts) -> AnswerJudgeEstimate | None:
    """What `evaluation.judge` is asked within its budget; None without one.

    An unknown number of test rows counts as `maxRows`.
    """
    judge = evaluation.judge
    if judge is None:
        return None
    num_test = judge.max_rows if data.num_test_rows is None else data.num_test_rows
    num_rows = min(judge.max_rows, num_test)
    requests = ORDERS * (num_rows + min(MEASURED_ROWS, num_test))
    row_tokens = data.p50_tokens or _UNKNOWN_ROW_TOKENS
    criteria = len(judge.criteria) // _CHARACTERS_PER_TOKEN
    prompt = _INSTRUCTION_TOKENS + criteria + row_tokens + 2 * evaluation.max_new_tokens
    answer = min(judge.max_tokens, _VERDICT_TOKENS)
    prices, budget = judge.openai.find_prices(), judge.budget
    tokens = requests * (prompt + answer)
    cost = None
    if prices is not None:
        cost = requests * (prompt * prices.prompt + answer * prices.completion) / 10**6
    limits = (
        (budget.max_requests, requests),
        (budget.max_tokens, tokens),
        (budget.max_cost, cost or 0.0),
    )
    return AnswerJudgeEstimate(
        model=judge.openai.model,
        requests=min(requests, budget.max_requests or requests),
        tokens=min(tokens, budget.max_tokens or tokens),
        is_capped=any(most and most < asked for most, asked in limits),
        cost=None if cost is None else min(cost, budget.max_cost or cost),
        currency="" if judge.openai.prices else "USD",
    )
