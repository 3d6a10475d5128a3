"""The part of a local language model that synthesis uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase


class Generation(Protocol):
    """One generated continuation."""

    text: str
    num_tokens: int
    finished: bool


class LanguageModel(Protocol):
    """A loaded model that can continue texts and score candidates.

    Stated as a protocol, so that what is written against it is tested with models of known
    behaviour.
    """

    tokenizer: PreTrainedTokenizerBase

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | Sequence[int] = 0,
        stop_at_newline: bool = False,
        batch_size: int = 16,
    ) -> list[Generation]:
        """One continuation per prompt, in order."""

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        candidates: Sequence[Sequence[int]],
        *,
        batch_size: int,
    ) -> np.ndarray:
        """[num_prompts, num_candidates]: sum of log p(candidate tokens) after the prompt."""
