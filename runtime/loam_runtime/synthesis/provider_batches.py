"""The provider's batch mode: files of requests, answered within a day, as a rule at half price.

A batch outlives the process that made it. Its id is in the journal, and its name in its own
metadata, so that a start after a kill waits for the batch instead of paying for another one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from loam_runtime.errors import TeacherError
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.faults import AttemptFailed, TeacherRefused
from loam_runtime.synthesis.http_failures import translate_status
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher, read_completion

if TYPE_CHECKING:
    from openai import APIError, AsyncOpenAI
    from openai.types import Batch

T = TypeVar("T")
logger = logging.getLogger(__name__)

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
NAME = "loam_batch"  # key of the batch's metadata


class BatchBook(Protocol):
    """Where the ids of batches outlive the process; the journal is one."""

    def find_batch(self, name: str) -> str:
        """The id of a batch made before, or ""."""

    def record_batch(self, name: str, batch_id: str, keys: Sequence[str]) -> None:
        """Keep an id, durable before the batch is waited for."""


class BatchTeacher:
    """An OpenAI-compatible endpoint through /v1/files and /v1/batches.

    Args:
        online: the same teacher, asked one by one; says how a request is written.
        poll_seconds: first and longest pause between two looks at a batch.
        patience_seconds: how long looks may fail before the run ends; the batch goes on.

    Attributes:
        book: set by whoever opens the journal; without it nothing outlives the process.
    """

    batch_size = 1000
    concurrency = 4
    is_chat = True
    language_model = None

    def __init__(
        self,
        online: OpenAICompatibleTeacher,
        *,
        poll_seconds: tuple[float, float] = (5.0, 60.0),
        patience_seconds: float = 1800.0,
    ) -> None:
        self.model = online.model
        self.endpoint = online.endpoint
        self.book: BatchBook | None = None
        self._online = online
        self._poll_seconds = poll_seconds
        self._patience_seconds = patience_seconds
        self._num_in_work = 0
        self._client: AsyncOpenAI | None = None
        self._refused: set[str] = set()  # batches that taught how to ask, and answered nothing

    async def answer(self, requests: Sequence[TeacherRequest]) -> list[TeacherAnswer | None]:
        """See `Teacher`; None for a request that the provider failed to answer.

        What a batch did not come to before it expired goes out in another one: it was not paid,
        and there may be no other question that stands for it.
        """
        by_key = {request.compute_key(self.model, self.endpoint): request for request in requests}
        answers: dict[str, TeacherAnswer] = {}
        left = by_key
        while left:
            batch, made = await self._ask_batch(left)
            if not (made or answers):
                self._raise_if_useless(batch)
            answers |= made
            if batch.status != "expired" or not made:
                break
            left = {key: request for key, request in left.items() if key not in made}
        return [answers.get(key) for key in by_key]

    async def _ask_batch(
        self, by_key: Mapping[str, TeacherRequest]
    ) -> tuple[Batch, dict[str, TeacherAnswer]]:
        """A batch that has ended, and what it answered."""
        batch_id = await self._find_or_create(by_key)
        self._num_in_work += 1
        try:
            batch = await self._wait(batch_id)
            return batch, await self._read_answers(batch, by_key)
        finally:
            self._num_in_work -= 1

    def _raise_if_useless(self, batch: Batch) -> None:
        if batch.id in self._refused:
            raise AttemptFailed("a parameter refused", is_charged=False, is_up=True)
        if batch.status != "completed":
            raise TeacherRefused(self._describe_failure(batch))

    async def close(self) -> None:
        """See `Teacher`."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _find_or_create(self, by_key: Mapping[str, TeacherRequest]) -> str:
        name = hashlib.sha256("\n".join(by_key).encode()).hexdigest()[:32]
        found = self.book.find_batch(name) if self.book is not None else ""
        if found and self._is_of_no_use(await self._look_at(found)):
            found = ""
        batch_id = found or await self._make(name, by_key)
        if self.book is not None:
            self.book.record_batch(name, batch_id, list(by_key))
        return batch_id

    async def _make(self, name: str, by_key: Mapping[str, TeacherRequest]) -> str:
        import openai

        try:
            return await self._find_by_name(name) or await self._create(name, by_key)
        except openai.APIError as exc:
            raise self._translate(exc) from exc

    async def _find_by_name(self, name: str) -> str:
        """A batch whose id was lost between its making and the journal."""
        page = await self._open().batches.list(limit=100)
        for batch in page.data:
            is_same = (batch.metadata or {}).get(NAME) == name
            if is_same and not self._is_of_no_use(batch):
                return batch.id
        return ""

    async def _create(self, name: str, by_key: Mapping[str, TeacherRequest]) -> str:
        lines = [
            {
                "custom_id": key,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": self._write(request),
            }
            for key, request in by_key.items()
        ]
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        file = await self._open().files.create(file=(f"{name}.jsonl", data), purpose="batch")
        # Not repeated blindly: a second one would be paid too. It is looked for by its name.
        batch = await self._open_once().batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={NAME: name},
        )
        return batch.id

    async def _wait(self, batch_id: str) -> Batch:
        pause, longest = self._poll_seconds
        while True:
            batch = await self._look_at(batch_id)
            if batch.status in ENDED:
                return batch
            await asyncio.sleep(pause)
            pause = min(longest, 1.5 * pause)

    async def _look_at(self, batch_id: str) -> Batch:
        return await self._insist(batch_id, lambda: self._open_once().batches.retrieve(batch_id))

    async def _insist(self, batch_id: str, look: Callable[[], Awaitable[T]]) -> T:
        """Look until it succeeds: what is paid is not lost to a blip, and looks are not charged.

        Raises:
            TeacherRefused: the endpoint refuses, or has failed for longer than the patience.
        """
        import openai

        started, (pause, longest) = time.monotonic(), self._poll_seconds
        while True:
            try:
                return await look()
            except openai.APIError as exc:
                failure = self._translate(exc)
                if isinstance(failure, TeacherRefused):
                    raise failure from exc
                pause = max(pause, failure.retry_after_seconds)
                if time.monotonic() + pause > started + self._patience_seconds:
                    raise TeacherRefused(self._describe_silence(batch_id, failure)) from exc
            logger.warning("batch %s: %s; looked at again", batch_id, failure.reason)
            await asyncio.sleep(pause)
            pause = min(longest, 2 * pause)

    async def _read_answers(
        self, batch: Batch, by_key: Mapping[str, TeacherRequest]
    ) -> dict[str, TeacherAnswer]:
        answers = {}
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            content = await self._insist(batch.id, partial(self._download, file_id))
            # Not splitlines: an answer may hold U+2028 and the like as they are.
            for line in content.split("\n"):
                try:
                    record = json.loads(line)
                    key, response = record["custom_id"], record["response"]
                    if response["status_code"] == 200:
                        answers[key] = read_completion(response["body"], by_key[key])
                    else:
                        self._learn(batch.id, response, by_key[key])
                except (ValueError, KeyError, TypeError, AttemptFailed):
                    continue  # this one request stays unanswered
        return answers

    async def _download(self, file_id: str) -> str:
        return (await self._open_once().files.content(file_id)).text

    def _write(self, request: TeacherRequest) -> dict[str, object]:
        """A request's body, without a schema: that it is refused would be known a day later."""
        return self._online.build_body(replace(request, row_keys=(), choices=()))

    def _learn(self, batch_id: str, response: Mapping[str, Any], request: TeacherRequest) -> None:
        body = self._write(request)
        if self._online.dialect.learn(response["status_code"], response["body"], body):
            self._refused.add(batch_id)

    def _is_of_no_use(self, batch: Batch) -> bool:
        """It has ended without one answer."""
        has_ended = batch.status in ENDED
        return has_ended and (not batch.output_file_id or batch.id in self._refused)

    def _translate(self, exc: APIError) -> AttemptFailed | TeacherRefused:
        """What a failure of one call means; a batch that was made nevertheless is found by name."""
        status = getattr(exc, "status_code", None)
        if status is None:
            failure = AttemptFailed(f"connection failed ({type(exc.__cause__ or exc).__name__})")
        elif status in (404, 405, 501):
            return TeacherRefused(self._describe_missing(status))
        else:
            body = {"error": exc.body}
            failure = translate_status(
                status, exc.response.headers, body, self.endpoint, self.model
            )
        if isinstance(failure, TeacherRefused):
            return TeacherRefused(failure.error)  # of the whole batch, not of one prompt
        return AttemptFailed(
            failure.reason,
            retry_after_seconds=failure.retry_after_seconds,
            is_rate_limit=failure.is_rate_limit,
            is_charged=False,
            is_up=self._num_in_work > 0,
        )

    def _describe_missing(self, status: int) -> TeacherError:
        return TeacherError(
            f"The endpoint {self.endpoint} offers no batches (HTTP {status}).",
            remedy="Set openai.mode of teacher or judge to online.",
        )

    def _describe_silence(self, batch_id: str, failure: AttemptFailed) -> TeacherError:
        return TeacherError(
            f"The endpoint {self.endpoint} has not told for {self._patience_seconds:.0f} s what "
            f"became of the batch {batch_id}; last failure: {failure.reason}.",
            remedy="The batch goes on: the same command waits for it, and it is paid once.",
        )

    def _describe_failure(self, batch: Batch) -> TeacherError:
        errors = (batch.errors.data or []) if batch.errors else []
        words = "; ".join(str(error.message) for error in errors[:3]) or "no reason given"
        return TeacherError(
            f"The batch {batch.id} at {self.endpoint} ended as {batch.status}: {words[:200]}.",
            remedy="Correct what it says and run again, or set openai.mode to online.",
        )

    def _open(self) -> AsyncOpenAI:
        if self._client is None:
            from openai import AsyncOpenAI, Omit

            self._client = AsyncOpenAI(
                base_url=self._online.base_url,
                api_key=self._online.api_key or "none",
                default_headers={
                    # The package would send the environment's account to any address.
                    name: value or Omit()
                    for name, value in self._online.account_headers.items()
                },
                max_retries=3,
            )
        return self._client

    def _open_once(self) -> AsyncOpenAI:
        """The client without retries of its own."""
        return self._open().with_options(max_retries=0)
