"""What goes to a teacher and what comes back, and the identity of a request."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

CHARS_PER_TOKEN = 4  # rough for English; used only where an endpoint reports no usage
TOKENS_PER_MESSAGE = 8  # what a chat template puts around one

LABEL_KEY = "label"  # of the one value of an answer that is a choice
Respondent = Literal["teacher", "judge"]  # who is asked: who writes rows, or who judges them


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """One question to a teacher.

    Attributes:
        messages: (role, content) pairs, oldest first. A teacher without a chat template is given
            the contents joined as one text to continue.
        max_tokens: most tokens of the answer.
        temperature: 0 for greedy.
        top_k: 0 for no limit; chat endpoints are not told it.
        stop: texts that end the answer.
        row_keys: keys of the JSON objects that are asked for; an endpoint that can holds the
            answer to them. Empty for any other form.
        choices: the answer is {"label": one of these}; an endpoint that can holds it to them.
        draw: which of several draws of the same question this is. Part of the identity: without
            it, n draws of one prompt would collapse into one answer.
    """

    messages: tuple[tuple[str, str], ...]
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    row_keys: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    draw: int = 0

    def compute_key(self, model: str, endpoint: str) -> str:
        """Hex digest of all that shapes the answer: equal keys are never asked twice."""
        shape = (
            model,
            endpoint,
            self.messages,
            self.max_tokens,
            self.temperature,
            self.top_p,
            self.top_k,
            self.stop,
            self.draw,
            *((self.row_keys,) if self.row_keys else ()),
            *(("choices", self.choices) if self.choices else ()),
        )
        text = json.dumps(shape, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def estimate_prompt_tokens(self) -> int:
        """A guess, where the endpoint does not count."""
        texts = sum(estimate_tokens(content) for _, content in self.messages)
        return texts + TOKENS_PER_MESSAGE * (len(self.messages) + 1)

    def bound_prompt_tokens(self) -> int:
        """What the prompt takes at most: no tokenizer makes more tokens than there are bytes."""
        size = sum(len(content.encode("utf-8", "surrogatepass")) for _, content in self.messages)
        return size + TOKENS_PER_MESSAGE * (len(self.messages) + 1)


@dataclass(frozen=True, slots=True)
class TeacherAnswer:
    """One answer.

    Attributes:
        text: as the teacher wrote it, thinking included; may be empty.
        prompt_tokens: tokens charged for the question.
        completion_tokens: tokens charged for the answer, reasoning included.
        is_complete: False where the answer was cut at `max_tokens`.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    is_complete: bool = True

    @property
    def num_tokens(self) -> int:
        """Tokens charged altogether."""
        return self.prompt_tokens + self.completion_tokens


def estimate_tokens(text: str) -> int:
    """Tokens of a text whose tokenizer is not known, rounded up."""
    return -(-len(text) // CHARS_PER_TOKEN)
