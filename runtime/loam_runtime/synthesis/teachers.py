"""Who answers: what every teacher offers, and the base model as its own.

A teacher makes one attempt. Waiting, repeating, counting and remembering are the client's
(`client.py`), the same for every teacher.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from loam_api.planning.generation import GENERATION_BATCH
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest

if TYPE_CHECKING:
    from loam_runtime.synthesis.scoring import LanguageModel


class Teacher(Protocol):
    """One that answers requests.

    Attributes:
        model: the model's name, part of every request's identity.
        endpoint: where it answers, part of every request's identity.
        batch_size: requests of one call; 1 for an endpoint, which batches by itself.
        concurrency: most calls open at once.
        is_chat: follows instructions; else it continues a text.
        language_model: the model where it is our own and can score texts, or None.
    """

    model: str
    endpoint: str
    batch_size: int
    concurrency: int
    is_chat: bool
    language_model: LanguageModel | None

    async def answer(self, requests: Sequence[TeacherRequest]) -> Sequence[TeacherAnswer | None]:
        """Answer up to `batch_size` requests, in order; one attempt.

        Returns:
            None for a request of several that alone was refused and not charged.

        Raises:
            AttemptFailed: it may succeed when made again.
            TeacherRefused: it will not.
        """

    async def close(self) -> None:
        """Let connections go; a later call opens them anew."""


class SelfTeacher:
    """The base model as its own teacher, in batches.

    A request's draws are seeded by its own key alone, which holds the number of the draw: neither
    the requests beside it nor who generates them change what is drawn.

    Args:
        language_model: the loaded model, or one on several workers.
        name: identifies the model's content (its digest), so that answers of another model are
            never taken for its own.
        endpoint: names what computes: the same seed draws other rows elsewhere.
        batch_size: sequences generated together.
        concurrency: batches asked for at once; more than 1 only of a model that takes calls from
            several threads.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        name: str,
        *,
        endpoint: str = "self",
        batch_size: int = GENERATION_BATCH,
        concurrency: int = 1,
    ) -> None:
        self.language_model = language_model
        self.model = name
        self.endpoint = endpoint
        self.batch_size = batch_size
        self.concurrency = concurrency
        self._threads: ThreadPoolExecutor | None = None
        self.is_chat = bool(getattr(language_model.tokenizer, "chat_template", None))

    async def answer(self, requests: Sequence[TeacherRequest]) -> list[TeacherAnswer]:
        """See `Teacher`; the requests of one call share their sampling."""
        # asyncio's own threads are few where a machine has few cores, and the journal's as well.
        self._threads = self._threads or ThreadPoolExecutor(self.concurrency, "loam-self-teacher")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._generate, requests)

    async def close(self) -> None:
        """Let the threads end, each with its batch; the model belongs to the caller."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    def _generate(self, requests: Sequence[TeacherRequest]) -> list[TeacherAnswer]:
        first = requests[0]
        prompts = [self._encode(request) for request in requests]
        generations = self.language_model.generate(
            prompts,
            max_new_tokens=first.max_tokens,
            temperature=first.temperature,
            top_k=first.top_k,
            top_p=first.top_p,
            seed=[self._derive_seed(request) for request in requests],
            stop_at_newline="\n" in first.stop,
            batch_size=self.batch_size,
        )
        return [
            TeacherAnswer(made.text, len(prompt), made.num_tokens, made.finished)
            for prompt, made in zip(prompts, generations, strict=True)
        ]

    def _derive_seed(self, request: TeacherRequest) -> int:
        return int(request.compute_key(self.model, self.endpoint)[:16], 16)

    def _encode(self, request: TeacherRequest) -> list[int]:
        tokenizer = self.language_model.tokenizer
        if self.is_chat:
            messages = [{"role": role, "content": text} for role, text in request.messages]
            text = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        else:
            text = "\n\n".join(content for _, content in request.messages)
        ids = list(tokenizer.encode(text, add_special_tokens=False))
        bos = tokenizer.bos_token_id
        return ids if bos is None or ids[:1] == [bos] else [bos, *ids]
