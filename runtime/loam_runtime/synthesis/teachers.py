"""Who answers: an OpenAI-compatible endpoint, or the base model itself.

A teacher makes one attempt. Waiting, repeating, counting and remembering are the client's
(`client.py`), the same for every teacher.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from loam_runtime.errors import CredentialsError
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest, estimate_tokens
from loam_runtime.synthesis.faults import AttemptFailed
from loam_runtime.synthesis.http_failures import translate_failure

if TYPE_CHECKING:
    from loam_runtime.synthesis.scoring import LanguageModel

OPENAI = "api.openai.com"  # stands for the openai package's own default address


class Teacher(Protocol):
    """One that answers requests.

    Attributes:
        model: the model's name, part of every request's identity.
        endpoint: where it answers, part of every request's identity.
        batch_size: requests of one call; 1 for an endpoint, which batches by itself.
        concurrency: most calls open at once.
        is_chat: follows instructions; else it continues a text.
        language_model: the model where it runs in this process and can score texts, or None.
    """

    model: str
    endpoint: str
    batch_size: int
    concurrency: int
    is_chat: bool
    language_model: LanguageModel | None

    async def answer(self, requests: Sequence[TeacherRequest]) -> list[TeacherAnswer]:
        """Answer up to `batch_size` requests, in order; one attempt.

        Raises:
            AttemptFailed: it may succeed when made again.
            TeacherRefused: it will not.
        """

    async def close(self) -> None:
        """Let connections go; a later call opens them anew."""


class OpenAICompatibleTeacher:
    """A chat endpoint, through the openai package.

    Args:
        model: name the endpoint knows.
        base_url: address ending in /v1; by default what the openai package takes from
            OPENAI_BASE_URL.
        api_key: by default OPENAI_API_KEY. An endpoint other than OpenAI's own may need none.
        concurrency: most requests open at once.
        timeout_seconds: for one answer, from the moment it is sent: waiting for a free slot does
            not count.

    Raises:
        CredentialsError: OpenAI's own endpoint without a key.
    """

    batch_size = 1
    is_chat = True
    language_model = None

    def __init__(
        self,
        model: str,
        base_url: str = "",
        api_key: str = "",
        *,
        concurrency: int = 16,
        timeout_seconds: float = 120.0,
    ) -> None:
        self.model = model
        self.endpoint = base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
        self.concurrency = concurrency
        self._timeout_seconds = timeout_seconds
        self._api_key = api_key or os.environ.get("OPENAI_API_KEY", "")
        if not self._api_key and self.endpoint == OPENAI:
            raise CredentialsError(
                "The teacher's API key is missing.",
                remedy="Set OPENAI_API_KEY, or OPENAI_BASE_URL for an endpoint that needs none.",
            )
        import openai  # noqa: F401  (a second long: here, and not while a request's time runs)

        self._client = None

    async def answer(self, requests: Sequence[TeacherRequest]) -> list[TeacherAnswer]:
        """See `Teacher`."""
        (request,) = requests
        client = self._open()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                # The package's typed method takes twice the processor time to check and build
                # the same JSON.
                body = await client.post(
                    "/chat/completions", body=self._build_body(request), cast_to=object
                )
        except TimeoutError as exc:
            reason = f"no answer within {self._timeout_seconds:g} s"
            raise AttemptFailed(reason) from exc
        except Exception as exc:
            raise translate_failure(exc, self.endpoint, self.model) from exc
        return [_read_completion(body, request)]

    def _build_body(self, request: TeacherRequest) -> dict[str, object]:
        body: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": role, "content": text} for role, text in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
        }
        return {**body, "stop": list(request.stop)} if request.stop else body

    async def close(self) -> None:
        """See `Teacher`."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    def _open(self):
        if self._client is None:
            import httpx2
            from openai import AsyncOpenAI, DefaultAsyncHttpxClient

            limits = httpx2.Limits(
                max_connections=self.concurrency, max_keepalive_connections=self.concurrency
            )
            self._client = AsyncOpenAI(
                base_url=None if self.endpoint == OPENAI else self.endpoint,
                api_key=self._api_key or "none",
                max_retries=0,  # the client of this package retries, and knows the budget
                timeout=self._timeout_seconds,
                http_client=DefaultAsyncHttpxClient(limits=limits),
            )
        return self._client


class SelfTeacher:
    """The base model as its own teacher, in batches, in this process.

    Args:
        language_model: the loaded model.
        name: identifies the model's content (its digest), so that answers of another model are
            never taken for its own.
        batch_size: sequences generated together.
    """

    endpoint = "self"
    concurrency = 1

    def __init__(self, language_model: LanguageModel, name: str, *, batch_size: int = 16) -> None:
        self.language_model = language_model
        self.model = name
        self.batch_size = batch_size
        self.is_chat = bool(getattr(language_model.tokenizer, "chat_template", None))

    async def answer(self, requests: Sequence[TeacherRequest]) -> list[TeacherAnswer]:
        """See `Teacher`; the requests of one call share their sampling."""
        return await asyncio.to_thread(self._generate, requests)

    async def close(self) -> None:
        """Nothing to let go: the model belongs to the caller."""

    def _generate(self, requests: Sequence[TeacherRequest]) -> list[TeacherAnswer]:
        first = requests[0]
        prompts = [self._encode(request) for request in requests]
        generations = self.language_model.generate(
            prompts,
            max_new_tokens=first.max_tokens,
            temperature=first.temperature,
            top_k=first.top_k,
            top_p=first.top_p,
            seed=int(first.compute_key(self.model, self.endpoint)[:8], 16),
            stop_at_newline="\n" in first.stop,
            batch_size=self.batch_size,
        )
        return [
            TeacherAnswer(made.text, len(prompt), made.num_tokens, made.finished)
            for prompt, made in zip(prompts, generations, strict=True)
        ]

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


def _read_completion(body: object, request: TeacherRequest) -> TeacherAnswer:
    """The answer in a response body; usage that a lax server left out is estimated."""
    try:
        choice = body["choices"][0]
        text = choice["message"].get("content") or ""
        usage = body.get("usage") or {}
        return TeacherAnswer(
            text=text,
            prompt_tokens=usage.get("prompt_tokens") or request.estimate_prompt_tokens(),
            completion_tokens=usage.get("completion_tokens") or estimate_tokens(text),
            is_complete=choice.get("finish_reason") != "length",
        )
    except (TypeError, KeyError, IndexError, AttributeError) as exc:
        raise AttemptFailed("a response that is not a completion") from exc
