"""How long a user waits for an answer, one request at a time, and what the adapter adds to it.

The ways of serving a model take turns on the same prompts, so that a machine that is busy for a
while is so for all of them. Each draws as many tokens as the right answer has: a model that
rambles is not called slow, nor one that says nothing fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from loam_runtime.data.examples import iterate_examples
from loam_runtime.data.template import PromptContract, encode_prompt, encode_target
from loam_runtime.evaluation.resampling import (
    NUM_RESAMPLES,
    Interval,
    compute_percentile_interval,
)
from loam_runtime.models.language_model import LanguageModel

if TYPE_CHECKING:
    from datasets import Dataset

MAX_PROMPTS = 20
MAX_ANSWER_TOKENS = 32
BUDGET_SECONDS = 10.0  # then no further block begins
_BLOCK = 5  # prompts that one way answers before the next has its turn: changing may cost a merge


@dataclass(frozen=True, slots=True)
class Serving:
    """One way of serving a model.

    Attributes:
        name: for the report.
        lm: answers while `use` holds.
        use: puts the model into this way's state for as long as its block lasts.
    """

    name: str
    lm: LanguageModel
    use: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of one way of serving, at batch size 1.

    Attributes:
        p50_seconds, p95_seconds: of a whole answer, reading the prompt included.
        tokens_per_second: answered tokens in all of that time.
        ratio: median over the prompts of its time by the first way's time for the same prompt;
            None for the first way.
    """

    name: str
    p50_seconds: float
    p95_seconds: float
    tokens_per_second: float
    num_requests: int
    ratio: Interval | None = None

    def to_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "max_answer_tokens": MAX_ANSWER_TOKENS}


@dataclass(frozen=True, slots=True)
class _Question:
    """A prompt, and how many tokens are drawn behind it."""

    prompt: list[int]
    num_tokens: int


@dataclass(slots=True)
class _Times:
    """Seconds of each question so far, by way of serving."""

    by_name: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, serving: Serving, block: Sequence[_Question]) -> None:
        seconds = self.by_name.setdefault(serving.name, [])
        with serving.use():
            if not seconds:
                _answer(serving.lm, block[0])  # warms up, and is not counted
            seconds += [_answer(serving.lm, question) for question in block]


def measure_latencies(
    servings: Sequence[Serving],
    test: Dataset,
    contract: PromptContract,
    *,
    num_prompts: int = MAX_PROMPTS,
    budget_seconds: float = BUDGET_SECONDS,
) -> list[Latency]:
    """Time each way's answers to the first test rows; a few at least, more within the budget.

    Args:
        servings: the first is what the others are compared with.
    """
    questions = _encode_questions(servings[0].lm, test, contract, num_prompts)
    if not questions:
        return []
    times, started = _Times(), perf_counter()
    turns = list(servings)
    for start in range(0, len(questions), _BLOCK):
        if start and perf_counter() - started > budget_seconds:
            questions = questions[:start]
            break
        for serving in turns:
            times.measure(serving, questions[start : start + _BLOCK])
        turns.reverse()  # no way is always the one that comes last
    num_tokens = sum(question.num_tokens for question in questions)
    first = times.by_name[servings[0].name]
    return [
        _summarize(one.name, times.by_name[one.name], None if index == 0 else first, num_tokens)
        for index, one in enumerate(servings)
    ]


def _encode_questions(
    lm: LanguageModel, test: Dataset, contract: PromptContract, num_prompts: int
) -> list[_Question]:
    """Of the rows that the model's context has room for."""
    max_context = lm.model.config.get_text_config().max_position_embeddings
    questions = []
    for row in islice(iterate_examples(test), num_prompts):
        answer = contract.rationale_tokens + len(encode_target(contract, lm.tokenizer, row.target))
        prompt = encode_prompt(contract, lm.tokenizer, row.input, row.context)
        num_tokens = min(answer, MAX_ANSWER_TOKENS)
        if len(prompt) + num_tokens <= max_context:
            questions.append(_Question(prompt, num_tokens))
    return questions


def _answer(lm: LanguageModel, question: _Question) -> float:
    started = perf_counter()
    lm.generate([question.prompt], max_new_tokens=question.num_tokens, may_end=False)
    return perf_counter() - started


def _summarize(
    name: str, seconds: Sequence[float], first: Sequence[float] | None, num_tokens: int
) -> Latency:
    p50, p95 = np.percentile(seconds, [50, 95]).tolist()
    ratio = None if first is None else _compare(seconds, first)
    return Latency(name, p50, p95, num_tokens / sum(seconds), len(seconds), ratio)


def _compare(seconds: Sequence[float], first: Sequence[float]) -> Interval:
    """The median ratio of paired times: one request that the machine held up moves it little."""
    ratios = np.array(seconds) / np.array(first)
    draws = np.random.default_rng(0).integers(len(ratios), size=(NUM_RESAMPLES, len(ratios)))
    return compute_percentile_interval(
        float(np.median(ratios)), np.median(ratios[draws], axis=1), ()
    )
