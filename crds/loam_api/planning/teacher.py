"""How many requests and tokens a teacher will be asked for: a range, before anything is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class TeacherEstimate:
    """Least and most of what teacher and judge will be asked; tokens of prompts and answers.

    Attributes:
        judge: name of the model that the job names to judge labels, or "".
        max_judge_requests: the judge's part of `max_requests`, where no budget ends it before.
        is_capped: the budget ends the synthesis before the upper end is reached.
    """

    min_requests: int
    max_requests: int
    min_tokens: int
    max_tokens: int
    is_capped: bool
    judge: str = ""
    max_judge_requests: int = 0


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
    if asks_wrong_answers:
        num_wrong = limit_wrong_answers(synthesis.target_count, data.num_real_rows)
        wrong_tokens = num_wrong * (2 * row_tokens + _WRONG_ANSWER_TOKENS)
        high_requests, high_tokens = high_requests + num_wrong, high_tokens + wrong_tokens
        if synthesis.teacher.kind == "openai":  # of a base model it shows when it is loaded
            low_requests, low_tokens = low_requests + num_wrong, low_tokens + wrong_tokens
    by_teacher, by_judge = (0, 0)
    if is_classification and synthesis.filters.consistency.enabled:
        by_teacher, by_judge = _count_judgements(synthesis, high_rows, data.num_real_rows)
    high_requests += by_teacher + by_judge
    high_tokens += (by_teacher + by_judge) * (_JUDGEMENT_SHOTS + 1) * row_tokens
    estimate = _cap(synthesis, (low_requests, high_requests), (low_tokens, high_tokens))
    judge = synthesis.judge.openai.model if synthesis.judge else ""
    return replace(estimate, judge=judge, max_judge_requests=by_judge)


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
