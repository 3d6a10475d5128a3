"""Requests, tokens and money that a teacher will cost: a range, before anything is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loam_api.planning.facts import DataFacts

if TYPE_CHECKING:
    from loam_api.finetunejob import Synthesis
    from loam_api.synthesis_block import TokenPrices

# Share of the generated rows that is kept: a strong teacher's 60 to 70 %, a small base model's
# as little as a fifth.
_KEPT_SHARE = (0.2, 0.7)
_ROWS_PER_REQUEST = {"seeded": (1, 5), "inContext": (1, 1), "rationale": (1, 5)}
_SHOTS = {"seeded": (1, 4), "inContext": (1, 8), "rationale": (1, 4)}
_INSTRUCTION_TOKENS = {"seeded": (150, 500), "inContext": (0, 100), "rationale": (150, 500)}
_RATIONALE_TOKENS = {"seeded": (0, 0), "inContext": (0, 0), "rationale": (40, 200)}
_EXPLANATION_TOKENS = ((80, 40), (150, 200))  # instruction and rationale of a training row
# A remote model is asked for each row's label in two or three orders, after as many for seeds.
_JUDGEMENTS_PER_ROW = 3
_MEASURED_SEEDS = 40
_JUDGEMENT_SHOTS = 24
_UNKNOWN_ROW_TOKENS = 64
# For the quality classifier a chat teacher is asked for wrong answers to some of the seeds.
_MAX_WRONG_ANSWERS = 20
_ROWS_PER_WRONG_ANSWER = 5
_MIN_SEEDS_TO_LEARN = 8
_WRONG_ANSWER_TOKENS = 150

# Whether a row is unsafe is asked once, and of some seeds before.
_SEEDS_CALLED_SAFE = 20
_UNSAFE_INSTRUCTION_TOKENS = 250
_UNSAFE_ANSWER_TOKENS = 10


@dataclass(frozen=True, slots=True)
class TeacherEstimate:
    """Least and most of what teacher and judge will be asked; tokens of prompts and answers.

    Attributes:
        judge: name of the model that the job names to judge labels, or "".
        max_judge_requests: the judge's part of `max_requests`, where no budget ends it before.
        is_capped: the budget ends the synthesis before the upper end is reached.
        min_cost, max_cost: money for all of it; None where a price is not known, or nobody is paid.
        currency: "USD" where list prices count, "" for that of the job's own prices.
    """

    min_requests: int
    max_requests: int
    min_tokens: int
    max_tokens: int
    is_capped: bool
    judge: str = ""
    max_judge_requests: int = 0
    min_cost: float | None = None
    max_cost: float | None = None
    currency: str = ""


@dataclass(frozen=True, slots=True)
class _Amount:
    """What one model is asked: requests, and the tokens of their questions and answers."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: _Amount) -> _Amount:
        return _Amount(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )

    def price(self, prices: TokenPrices) -> float:
        """In the currency of the prices, which are of a million tokens."""
        prompts = self.prompt_tokens * prices.prompt
        return (prompts + self.completion_tokens * prices.completion) / 10**6


def estimate_teacher(
    synthesis: Synthesis,
    data: DataFacts,
    *,
    is_classification: bool,
    explains_seeds: bool = False,
    asks_wrong_answers: bool = False,
) -> TeacherEstimate:
    """The range for all rows of `synthesis.target_count`, within its budget.

    Args:
        explains_seeds: each training row is asked about too, twice at most.
        asks_wrong_answers: the quality classifier asks a teacher that can be told to be wrong.
    """
    row_tokens = data.p50_tokens or _UNKNOWN_ROW_TOKENS
    low, high = (_estimate_rows(synthesis, row_tokens, end) for end in (0, 1))
    if explains_seeds:
        low += _estimate_explanations(data.num_real_rows, row_tokens, 0)
        high += _estimate_explanations(data.num_real_rows, row_tokens, 1)
    if asks_wrong_answers:
        num_wrong = limit_wrong_answers(synthesis.target_count, data.num_real_rows)
        prompt_tokens = num_wrong * (row_tokens + _WRONG_ANSWER_TOKENS)
        wrong = _Amount(num_wrong, prompt_tokens, num_wrong * row_tokens)
        high += wrong
        if synthesis.teacher.kind == "openai":  # of a base model it shows when it is loaded
            low += wrong
    by_judge = _Amount()
    if is_classification and synthesis.filters.consistency.enabled:
        counts = _count_judgements(synthesis, _count_rows(synthesis, 1), data.num_real_rows)
        tokens = (_JUDGEMENT_SHOTS + 1) * row_tokens
        of_teacher, by_judge = (_Amount(count, count * tokens) for count in counts)
        high += of_teacher
    if synthesis.filters.unsafe.enabled:
        num_asked = _count_rows(synthesis, 1) + min(data.num_real_rows, _SEEDS_CALLED_SAFE)
        tokens = num_asked * (_UNSAFE_INSTRUCTION_TOKENS + row_tokens)
        asked = _Amount(num_asked, tokens, num_asked * _UNSAFE_ANSWER_TOKENS)
        if synthesis.judge:
            by_judge += asked
        else:
            high += asked
    return _cap(synthesis, low, high, by_judge)


def _count_rows(synthesis: Synthesis, end: int) -> int:
    """Rows that are written for those wanted, at the lower (0) or upper (1) end."""
    return math.ceil(synthesis.target_count / _KEPT_SHARE[1 - end])


def _estimate_rows(synthesis: Synthesis, row_tokens: int, end: int) -> _Amount:
    """The writing of the rows themselves."""
    strategy, num_rows = synthesis.strategy, _count_rows(synthesis, end)
    requests = math.ceil(num_rows / _ROWS_PER_REQUEST[strategy][1 - end])
    prompt = _INSTRUCTION_TOKENS[strategy][end] + _SHOTS[strategy][end] * row_tokens
    answer = row_tokens + _RATIONALE_TOKENS[strategy][end]
    return _Amount(requests, requests * prompt, num_rows * answer)


def _estimate_explanations(num_rows: int, row_tokens: int, end: int) -> _Amount:
    """The rationales of training rows: one request each, or two."""
    instruction, rationale = _EXPLANATION_TOKENS[end]
    asked = _Amount(num_rows, num_rows * (row_tokens + instruction), num_rows * rationale)
    # A repair shows the first answer too.
    return asked + asked + _Amount(0, num_rows * rationale) if end else asked


def _count_judgements(synthesis: Synthesis, num_rows: int, num_seeds: int) -> tuple[int, int]:
    """The most questions about labels: to a remote teacher, and to the judge.

    A model that scores labels is asked for none; a judge that is a fallback comes after a
    teacher that was measured in vain.
    """
    measured = min(num_seeds, _MEASURED_SEEDS) * _JUDGEMENTS_PER_ROW
    judged = measured + num_rows * _JUDGEMENTS_PER_ROW
    is_remote = synthesis.teacher.kind == "openai"
    if synthesis.judge is None:
        return (judged if is_remote else 0, 0)
    is_fallback = synthesis.on_untrusted_filter == "judge"
    return (measured if is_fallback and is_remote else 0, judged)


def limit_wrong_answers(num_rows: int, num_seeds: int) -> int:
    """Most wrong answers that a synthesis asks for: few beside the rows it is there for.

    Args:
        num_rows: rows wanted.
        num_seeds: training rows; the quality classifier learns nothing from a handful.
    """
    if num_seeds < _MIN_SEEDS_TO_LEARN:
        return 0
    return min(_MAX_WRONG_ANSWERS, num_seeds, num_rows // _ROWS_PER_WRONG_ANSWER)


def estimate_exchange_tokens(synthesis: Synthesis, data: DataFacts) -> int:
    """Most tokens of one prompt and its answer together."""
    row_tokens = data.p50_tokens or _UNKNOWN_ROW_TOKENS
    prompt = _INSTRUCTION_TOKENS[synthesis.strategy][1] + _SHOTS[synthesis.strategy][1] * row_tokens
    return prompt + synthesis.sampling.max_tokens


def _cap(
    synthesis: Synthesis, low: _Amount, by_teacher: _Amount, by_judge: _Amount
) -> TeacherEstimate:
    """The estimate within the budget.

    Args:
        low: the least.
        by_teacher, by_judge: the most that each is asked.
    """
    budget, high = synthesis.budget, by_teacher + by_judge
    min_cost = _price(synthesis, low, _Amount())
    max_cost = _price(synthesis, by_teacher, by_judge)
    most_requests = budget.max_requests or high.requests
    most_tokens = budget.max_tokens or high.tokens
    most_cost = budget.max_cost or math.inf
    return TeacherEstimate(
        min_requests=min(low.requests, most_requests),
        max_requests=min(high.requests, most_requests),
        min_tokens=min(low.tokens, most_tokens),
        max_tokens=min(high.tokens, most_tokens),
        is_capped=most_requests < high.requests
        or most_tokens < high.tokens
        or most_cost < (max_cost or 0),
        judge=synthesis.judge.openai.model if synthesis.judge else "",
        max_judge_requests=by_judge.requests,
        min_cost=None if min_cost is None else min(min_cost, most_cost),
        max_cost=None if max_cost is None else min(max_cost, most_cost),
        currency=_find_currency(synthesis),
    )


def _price(synthesis: Synthesis, by_teacher: _Amount, by_judge: _Amount) -> float | None:
    """What is paid for it; None where a price is not known, or nobody is paid."""
    judge = synthesis.judge.openai if synthesis.judge else None
    parts = ((synthesis.teacher.openai, by_teacher), (judge, by_judge))
    costs = []
    for endpoint, amount in parts:
        if endpoint is None:
            continue
        prices = endpoint.find_prices()
        if prices is None:
            return None
        costs.append(amount.price(prices))
    return sum(costs) if costs else None


def _find_currency(synthesis: Synthesis) -> str:
    endpoints = synthesis.list_endpoints().values()
    return "" if any(endpoint.prices for endpoint in endpoints) else "USD"
