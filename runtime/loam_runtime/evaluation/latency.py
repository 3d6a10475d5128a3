"""How long a user waits for an answer, one request at a time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from loam_runtime.data.examples import iterate_examples
from loam_runtime.data.template import PromptContract, encode_prompt
from loam_runtime.models.language_model import LanguageModel

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds per request and tokens per second, at batch size 1."""

    p50_seconds: float
    p95_seconds: float
    tokens_per_second: float
    num_requests: int

    def to_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measure_latency(
    lm: LanguageModel,
    test: Dataset,
    contract: PromptContract,
    *,
    max_new_tokens: int,
    num_prompts: int = 20,
) -> Latency:
    """Time greedy answers to the first test rows, after one that warms up and is not counted."""
    prompts = [
        encode_prompt(contract, lm.tokenizer, row.input, row.context)
        for row in islice(iterate_examples(test), num_prompts)
    ]
    options = {
        "max_new_tokens": contract.rationale_tokens + max_new_tokens,
        "stop_at_newline": bool(contract.labels) and not contract.rationale_tokens,
    }
    lm.generate(prompts[:1], **options)
    seconds, num_tokens = [], 0
    for prompt in prompts:
        started = perf_counter()
        (answer,) = lm.generate([prompt], **options)
        seconds.append(perf_counter() - started)
        num_tokens += answer.num_tokens
    p50, p95 = np.percentile(seconds, [50, 95]).tolist()
    return Latency(p50, p95, num_tokens / sum(seconds), len(prompts))
