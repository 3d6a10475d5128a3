"""The provider's batch mode: files of requests, answered within a day, as a rule at half price.

A batch outlives the process that made it. Its id is in the journal, and its name in its own
metadata, so that a start after a kill waits for the batch instead of paying for another one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from loam_runtime.errors import TeacherError
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.faults import AttemptFailed, TeacherRefused
from loam_runtime.synthesis.http_failures import translate_status
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher, read_completion

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch

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

    Attributes:
        book: set by whoever opens the journal; without it nothing outlives the process.
    """

    batch_size = 1000
    concurrency = 4
    is_chat = True
    language_model = None

    def __init__(
        self, online: OpenAICompatibleTeacher, *, poll_seconds: tuple[float, float] = (5.0, 60.0)
    ) -> None:
        self.model = online.model
        self.endpoint = online.endpoint
        self.book: BatchBook | None = None
        self._online = online
        self._poll_seconds = poll_seconds
        self._client: AsyncOpenAI | None = None
        self._refused: set[str] = set()  # batches that taught how to ask, and answered nothing

    async def answer(self, requests: Sequence[TeacherRequest]) -> list[TeacherAnswer | None]:
        """See `Teacher`; None for a request that the batch did not answer."""
        by_key = {request.compute_key(self.model, self.endpoint): request for request in requests}
        import openai

        try:
            batch = await self._wait(await self._find_or_create(by_key))
            answers = await self._read_answers(batch, by_key)
        except openai.APIStatusError as exc:
            raise self._translate(exc) from exc
        except openai.APIConnectionError as exc:
            # A batch that was made nevertheless is found again by its name.
            reason = f"connection failed ({type(exc.__cause__ or exc).__name__})"
            raise AttemptFailed(reason, is_charged=False) from exc
        if not answers and batch.id in self._refused:
            raise AttemptFailed("a parameter refused", is_charged=False)
        if not answers and batch.status != "completed":
            raise TeacherRefused(self._describe_failure(batch))
        return [answers.get(key) for key in by_key]

    async def close(self) -> None:
        """See `Teacher`."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _find_or_create(self, by_key: Mapping[str, TeacherRequest]) -> str:
        name = hashlib.sha256("\n".join(by_key).encode()).hexdigest()[:32]
        found = self.book.find_batch(name) if self.book is not None else ""
        if found and self._is_of_no_use(await self._open().batches.retrieve(found)):
            found = ""
        batch_id = found or await self._find_by_name(name) or await self._create(name, by_key)
        if self.book is not None:
            self.book.record_batch(name, batch_id, list(by_key))
        return batch_id

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
        client = self._open()
        file = await client.files.create(file=(f"{name}.jsonl", data), purpose="batch")
        # Not repeated blindly: a second one would be paid too. It is looked for by its name.
        batch = await client.with_options(max_retries=0).batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={NAME: name},
        )
        return batch.id

    async def _wait(self, batch_id: str) -> Batch:
        pause, longest = self._poll_seconds
        while True:
            batch = await self._open().batches.retrieve(batch_id)
            if batch.status in ENDED:
                return batch
            await asyncio.sleep(pause)
            pause = min(longest, 1.5 * pause)

    async def _read_answers(
        self, batch: Batch, by_key: Mapping[str, TeacherRequest]
    ) -> dict[str, TeacherAnswer]:
        answers = {}
        for file_id in (batch.output_file_id, batch.error_file_id):
            content = await self._open().files.content(file_id) if file_id else None
            for line in content.text.splitlines() if content else ():
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

    def _translate(self, exc) -> AttemptFailed | TeacherRefused:
        if exc.status_code in (404, 405, 501):
            return TeacherRefused(
                TeacherError(
                    f"The endpoint {self.endpoint} offers no batches (HTTP {exc.status_code}).",
                    remedy="Set openai.mode of teacher or judge to online.",
                )
            )
        body = {"error": exc.body}
        return translate_status(
            exc.status_code, exc.response.headers, body, self.endpoint, self.model
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
            from openai import AsyncOpenAI

            self._client = AsyncOpenAI(
                base_url=self._online.base_url,
                api_key=self._online.api_key or "none",
                max_retries=3,
            )
        return self._client
