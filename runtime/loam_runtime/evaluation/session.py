"""One model under measurement: its prompts, within its context, and its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from loam_runtime.data.examples import Example, iterate_examples
from loam_runtime.data.prompt import RATIONALE_END, RATIONALE_START
from loam_runtime.data.template import (
    PromptContract,
    encode_prompt,
    encode_reasoning,
    encode_target,
)
from loam_runtime.models.language_model import Generation, LanguageModel
from loam_runtime.observability.monitor import StageMonitor

if TYPE_CHECKING:
    from datasets import Dataset

_ROWS_AT_ONCE = 256

Shots = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Session:
    """What every way of answering needs.

    Attributes:
        shots: (input, target) pairs shown before each input.
        max_new_tokens: of a generated answer.
        num_too_long: rows so far that did not fit the model's context.
    """

    lm: LanguageModel
    contract: PromptContract
    shots: Shots
    max_new_tokens: int
    batch_size: int
    monitor: StageMonitor
    num_too_long: int = 0

    def __post_init__(self) -> None:
        # The larger half of the context belongs to the rows themselves.
        empty = Example(id="", input="", target="")
        while self.shots and len(self.encode(empty)) > self.max_context // 2:
            self.shots = self.shots[:-1]

    @property
    def max_context(self) -> int:
        """Most tokens of prompt and answer together that the model takes."""
        return self.lm.model.config.get_text_config().max_position_embeddings

    def encode(self, row: Example, *, with_shots: bool = True) -> list[int]:
        """The prompt of a row; a row that is itself a shot is asked without its own example."""
        shots = tuple(shot for shot in self.shots if shot[0] != row.input) if with_shots else ()
        return encode_prompt(self.contract, self.lm.tokenizer, row.input, row.context, shots)

    def encode_target(self, target: str) -> list[int]:
        """The tokens of an answer, with its terminator."""
        return encode_target(self.contract, self.lm.tokenizer, target)

    def encode_heads(self, prompts: Sequence[list[int]], written: Sequence[str]) -> list[list[int]]:
        """The prompts with the rationales that the model wrote, up to where its answer begins.

        A rationale that did not end is none: the answer follows the prompt.
        """
        heads = []
        for prompt, text in zip(prompts, written, strict=True):
            before, end, _ = text.partition(RATIONALE_END)
            rationale = before.partition(RATIONALE_START)[2].strip() if end else ""
            told = encode_reasoning(self.contract, self.lm.tokenizer, rationale)
            heads.append([*prompt, *told])
        return heads

    def encode_fitting(
        self, rows: Sequence[Example], num_answer_tokens: int
    ) -> tuple[list[int], list[list[int]]]:
        """Places and prompts of the rows that fit; one too long with the shots goes without."""
        places, prompts = [], []
        for place, row in enumerate(rows):
            prompt = self.encode(row)
            if len(prompt) + num_answer_tokens > self.max_context:
                prompt = self.encode(row, with_shots=False)
            if len(prompt) + num_answer_tokens <= self.max_context:
                places.append(place)
                prompts.append(prompt)
        return places, prompts

    def score(self, prompts: Sequence[list[int]], candidates: Sequence[list[int]]) -> np.ndarray:
        """Log p of the candidates after each prompt: [num_prompts, num_candidates]."""
        return self.lm.score(
            prompts, candidates, batch_size=self.batch_size, on_progress=self.monitor.advance
        )

    def generate(
        self, prompts: Sequence[list[int]], max_new_tokens: int, *, one_line: bool
    ) -> list[Generation]:
        """Greedy answers."""
        return self.lm.generate(
            prompts,
            max_new_tokens=max_new_tokens,
            stop_at_newline=one_line,
            batch_size=self.batch_size,
            on_progress=self.monitor.advance,
        )


def iterate_chunks(table: Dataset) -> Iterator[list[Example]]:
    """The rows, a few hundred at a time, so that memory does not grow with the table."""
    rows = iterate_examples(table)
    while chunk := list(islice(rows, _ROWS_AT_ONCE)):
        yield chunk
