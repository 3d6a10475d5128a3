"""How many requests and tokens a teacher will be asked for: a range, before anything is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loam_api.planning.facts import DataFacts

if TYPE_CHECKING:
    from loam_api.finetunejob import Synthesis

# Share of the generated rows that is kept: a strong teacher's 60 to 70 %, a small base model's
# as little as a fifth.
_KEPT_SHARE = (0.2, 0.7)
_ROWS_PER_REQUEST = {"seeded": (1, 5), "inContext": (1, 1), "rationale": (1, 5)}
_SHOTS = {"seeded": (1, 4), "inContext": (1, 8), "rationale": (1, 4)}
_INSTRUCTION_TOKENS = {"seeded": (150, 500), "inContext": (0, 100), "rationale": (150, 500)}
_RATIONALE_TOKENS = {"seeded": (0, 0), "inContext": (0, 0), "rationale": (40, 200)}
_EXPLANATION_TOKENS = ((80, 40), (150, 200))  # instruction and rationale of a training row
# A remote teacher is asked for each row's label in two or three orders, after as many for seeds.
_JUDGEMENTS_PER_ROW = 3
_MEASURED_SEEDS = 40
_JUDGEMENT_SHOTS = 24
_UNKNOWN_ROW_TOKENS = 64


@dataclass(frozen=True, slots=True)
class TeacherEstimate:
    """Least and most of what will be asked; tokens of prompts and answers together.

    Attributes:
        is_capped: the budget ends the synthesis before the upper end is reached.
    """

    min_requests: int
    max_requests: int
    min_tokens: int
    max_tokens: int
    is_capped: bool


def estimate_teacher(
    synthesis: Synthesis,
    data: DataFacts,
    *,
    is_classification: bool,
    explains_seeds: bool = False,
) -> TeacherEstimate:
    """The range for all rows of `synthesis.target_count`, within its budget.

    Args:
        explains_seeds: each training row is asked about too, twice at most.
    """
    strategy, row_tokens = synthesis.strategy, data.p50_tokens or _UNKNOWN_ROW_TOKENS
    low_rows = math.ceil(synthesis.target_count / _KEPT_SHARE[1])
    high_rows = math.ceil(synthesis.target_count / _KEPT_SHARE[0])
    least, most = _ROWS_PER_REQUEST[strategy]
    low_requests, high_requests = math.ceil(low_rows / most), math.ceil(high_rows / least)

    def count_tokens(requests: int, rows: int, end: int) -> int:
        prompt = _INSTRUCTION_TOKENS[strategy][end] + _SHOTS[strategy][end] * row_tokens
        return requests * prompt + rows * (row_tokens + _RATIONALE_TOKENS[strategy][end])

    low_tokens = count_tokens(low_requests, low_rows, 0)
    high_tokens = count_tokens(high_requests, high_rows, 1)
    if explains_seeds:
        low_requests += data.num_real_rows
        high_requests += 2 * data.num_real_rows
        low_tokens += data.num_real_rows * (row_tokens + sum(_EXPLANATION_TOKENS[0]))
        # A repair shows the first answer too.
        twice = 2 * (row_tokens + sum(_EXPLANATION_TOKENS[1])) + _EXPLANATION_TOKENS[1][1]
        high_tokens += data.num_real_rows * twice
    is_judged = is_classification and synthesis.filters.consistency.enabled
    if is_judged and synthesis.teacher.kind == "openai":
        seeds = min(data.num_real_rows, _MEASURED_SEEDS)
        judged = (high_rows + seeds) * _JUDGEMENTS_PER_ROW
        high_requests += judged
        high_tokens += judged * (_JUDGEMENT_SHOTS + 1) * row_tokens
    return _cap(synthesis, (low_requests, high_requests), (low_tokens, high_tokens))


def _cap(
    synthesis: Synthesis, requests: tuple[int, int], tokens: tuple[int, int]
) -> TeacherEstimate:
    most_requests = synthesis.budget.max_requests or requests[1]
    most_tokens = synthesis.budget.max_tokens or tokens[1]
    return TeacherEstimate(
        min_requests=min(requests[0], most_requests),
        max_requests=min(requests[1], most_requests),
        min_tokens=min(tokens[0], most_tokens),
        max_tokens=min(tokens[1], most_tokens),
        is_capped=most_requests < requests[1] or most_tokens < tokens[1],
    )
