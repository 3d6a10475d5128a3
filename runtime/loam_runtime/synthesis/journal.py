"""Every question to the teacher and every answer, kept: what was answered is never paid again.

The journal is a folder of files of JSON lines that only grow, one file per run, with a copy in
object storage. Runs that share a folder read each other's answers. Each line is one of

    {"ask": key, "reserve": tokens, "messages": [...]}    about to be sent
    {"refused": key, "reserve": tokens, "wait": seconds}  the endpoint did no work
    {"answer": key, "reserve": tokens, "text": ..., ...}  what came back
    {"batch": name, "id": id, "keys": [...]}              the provider works on these asks

with the run that wrote it ("run"), the time ("at") and the same in money ("reserve_picos",
"picos": 10^-12 of the prices' currency). A process that is killed between `ask`
and `answer` leaves the request charged at its worst case, as the budget demands.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from loam_runtime.errors import StorageError
from loam_runtime.synthesis.budget import Amount
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.journal_file import (
    cut_torn_end,
    open_locked,
    split_whole_lines,
    wrap_os_error,
)
from loam_runtime.synthesis.segments import SegmentStore, SegmentUploader

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Receipt:
    """An answer with what its journal line needs: its key, what was reserved, what it cost."""

    key: str
    answer: TeacherAnswer
    reserved: Amount
    cost: Amount


class Journal:
    """Answers by key, durable before anyone sees them. Use as an async context manager.

    Args:
        folder: local folder of the journal files; made if missing.
        run_id: names this run's file; what the run has spent is counted by it. A run that is
            started again, also with a raised budget, keeps its name.
        store: where segments are copied, or None.

    Attributes:
        spent: by this run before this start.

    Raises:
        InputError: another process is writing for the same run.
        StorageError: the folder or the store cannot be read or written.
    """

    def __init__(self, folder: Path, run_id: str, store: SegmentStore | None = None) -> None:
        self._run_id = run_id
        self._answers: dict[str, TeacherAnswer] = {}
        self._asked: set[str] = set()
        self._not_before: dict[str, float] = {}  # seconds since the epoch
        self._batches: dict[str, str] = {}
        self._batch_keys: dict[str, list[str]] = {}  # of a batch, by its first one
        self._unsettled: dict[str, list[Amount]] = {}
        self._batched: set[str] = set()
        self.spent = Amount()
        self._uploader = SegmentUploader(store) if store is not None else None
        path = folder / f"{run_id}.jsonl"
        self._file = open_locked(path)
        try:
            self._load(path)
        except BaseException:
            os.close(self._file)
            raise
        self._unsynced: list[asyncio.Future[None]] = []
        self._written = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def num_answers(self) -> int:
        """Answers known, from this start and all before it."""
        return len(self._answers)

    def find(self, key: str) -> TeacherAnswer | None:
        """The answer to a question asked before, if there is one."""
        return self._answers.get(key)

    def record_ask(self, key: str, request: TeacherRequest, reserved: Amount) -> None:
        """Note that a request is about to be sent and what it may cost."""
        line: dict[str, object] = {"ask": key, **_describe_reserve(reserved)}
        if key not in self._asked:
            self._asked.add(key)
            line["messages"] = request.messages
        self._write([line])

    def find_wait_seconds(self, key: str) -> float:
        """What is left of the pause that the endpoint asked an earlier start for."""
        return max(0.0, self._not_before.get(key, 0.0) - time.time())

    def record_refusal(self, key: str, reserved: Amount, wait_seconds: float = 0.0) -> None:
        """Note that the endpoint did no work for the last request of this key.

        Args:
            wait_seconds: what it asked to wait; a run that is killed meanwhile keeps to it.
        """
        self._write([{"refused": key, **_describe_reserve(reserved), "wait": wait_seconds}])

    def find_batch(self, name: str) -> str:
        """The id of a provider's batch made before, or ""."""
        return self._batches.get(name, "")

    def count_batched(self, keys: Sequence[str]) -> int:
        """How many of these keys, from the first, are those of one batch made before; 0 if none.

        The budget may cut a batch, and be another one in a later start: asked for in another cut,
        what the provider works on would be paid a second time.
        """
        batch = self._batch_keys.get(keys[0], [])
        return len(batch) if batch == list(keys[: len(batch)]) else 0

    def record_batch(self, name: str, batch_id: str, keys: Sequence[str]) -> None:
        """Note which batch works on the asks of these keys; on disk when this returns.

        A start that finds the batch waits for it: the asks of the start before are then not
        charged beside its own.
        """
        self._write([{"batch": name, "id": batch_id, "keys": list(keys)}])
        try:
            os.fsync(self._file)
        except OSError as exc:
            raise wrap_os_error(exc) from exc

    async def record_answers(self, receipts: Sequence[Receipt]) -> None:
        """Keep answers; returns once they are on disk.

        Raises:
            StorageError: they could not be written.
        """
        self._write([_describe(receipt) for receipt in receipts])
        self._answers.update({receipt.key: receipt.answer for receipt in receipts})
        synced = asyncio.get_running_loop().create_future()
        self._unsynced.append(synced)
        self._written.set()
        await synced

    async def copy_to_store(self) -> None:
        """Leave nothing for the next upload: what follows may keep the event loop for minutes."""
        if self._uploader is not None:
            await self._uploader.try_flush()

    async def __aenter__(self) -> Self:
        self._tasks.append(asyncio.create_task(self._sync_forever()))
        if self._uploader is not None:
            self._tasks.append(asyncio.create_task(self._uploader.run()))
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._finish()
        except StorageError:
            if error is None:
                raise
            logger.warning("teacher journal: the last lines could not be kept", exc_info=True)
        finally:
            os.close(self._file)

    async def _finish(self) -> None:
        try:
            os.fsync(self._file)
        except OSError as exc:
            raise wrap_os_error(exc) from exc
        if self._uploader is not None:
            await self._uploader.flush()

    async def _sync_forever(self) -> None:
        """Bring written lines to disk, many answers by one fsync."""
        while True:
            await self._written.wait()
            self._written.clear()
            waiting, self._unsynced = self._unsynced, []
            try:
                await asyncio.to_thread(os.fsync, self._file)
                failure = None
            except OSError as exc:
                failure = wrap_os_error(exc)
            for synced in waiting:
                if synced.done():  # its waiter was cancelled
                    continue
                if failure is None:
                    synced.set_result(None)
                else:
                    synced.set_exception(failure)

    def _write(self, records: Iterable[dict[str, object]]) -> None:
        self._raise_background_failure()
        lines = [self._stamp(record) for record in records]
        data = b"".join(line + b"\n" for line in lines)
        try:
            # Straight to the kernel: from here on the lines outlive the process.
            if os.write(self._file, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as exc:
            raise wrap_os_error(exc) from exc
        if self._uploader is not None:
            for line in lines:
                self._uploader.add(line)

    def _stamp(self, record: dict[str, object]) -> bytes:
        # The time makes lines distinct, so that a line and its copy in the store can be told
        # from two equal events.
        return json.dumps({**record, "run": self._run_id, "at": time.time()}).encode()

    def _raise_background_failure(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise task.exception()

    def _load(self, path: Path) -> None:
        own = cut_torn_end(self._file)
        others = [
            line
            for other in sorted(path.parent.glob("*.jsonl"))
            if other != path
            for line in split_whole_lines(other.read_bytes())
        ]
        stored: list[bytes] = []
        if self._uploader is not None:
            stored = self._uploader.load()
            known = set(stored)
            for line in own:
                if line not in known:
                    self._uploader.add(line)
        records = [_parse(line) for line in dict.fromkeys([*own, *others, *stored])]
        # By time: a segment's name tells when its writer started, not when a line was written.
        for record in sorted(filter(None, records), key=lambda record: record["at"]):
            self._replay(record)
        for key in self._batched:
            # Still worked on: whoever waits for the batch asks, and is charged, again.
            self.spent -= sum(self._unsettled.get(key, []), Amount())

    def _replay(self, record: dict) -> None:
        try:
            if "answer" in record:
                self._answers.setdefault(record["answer"], _read_answer(record))
            elif "ask" in record:
                self._asked.add(record["ask"])
            elif record.get("wait"):
                self._not_before[record["refused"]] = record["at"] + record["wait"]
            elif "batch" in record:
                self._batches[record["batch"]] = record["id"]
                self._batch_keys[record["keys"][0]] = record["keys"]
            if record["run"] == self._run_id:
                self._count_spending(record)
        except (ValueError, LookupError, TypeError):
            logger.warning("teacher journal: a line that says nothing is passed over")

    def _count_spending(self, record: dict) -> None:
        if "batch" in record:
            self._batched.update(record["keys"])
            return
        key = record.get("ask") or record.get("refused") or record["answer"]
        open_asks = self._unsettled.setdefault(key, [])
        reserved = Amount(1, int(record["reserve"]), int(record.get("reserve_picos", 0)))
        if "ask" in record:
            self.spent += reserved
            open_asks.append(reserved)
            return
        if open_asks:
            open_asks.pop()
        if "refused" in record:
            self.spent -= reserved
        else:
            cost = Amount(1, _read_answer(record).num_tokens, int(record.get("picos", 0)))
            self.spent += cost - reserved


def _parse(line: bytes) -> dict | None:
    try:
        record = json.loads(line)
        return {**record, "at": float(record["at"])}
    except (ValueError, KeyError, TypeError):
        logger.warning("teacher journal: an unreadable line is passed over")
        return None


def _describe_reserve(reserved: Amount) -> dict[str, int]:
    return {"reserve": reserved.tokens, "reserve_picos": reserved.picos}


def _describe(receipt: Receipt) -> dict[str, object]:
    answer = receipt.answer
    return {
        "answer": receipt.key,
        **_describe_reserve(receipt.reserved),
        "picos": receipt.cost.picos,
        "text": answer.text,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "is_complete": answer.is_complete,
    }


def _read_answer(record: dict) -> TeacherAnswer:
    return TeacherAnswer(
        record["text"],
        int(record["prompt_tokens"]),
        int(record["completion_tokens"]),
        bool(record["is_complete"]),
    )
