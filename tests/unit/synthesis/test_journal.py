"""What was answered is never asked again."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from loam_runtime.errors import InputError, StorageError
from loam_runtime.storage.base import NotFoundError
from loam_runtime.synthesis.budget import Amount
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.journal import Journal, Receipt
from loam_runtime.synthesis.segments import COMPACT_FROM

REQUEST = TeacherRequest((("user", "one"),), max_tokens=50)
ANSWER = TeacherAnswer("text \u2028 ü", 10, 5)


@dataclass
class Item:
    key: str


class MemoryStore:
    """A store of the journal's kind; `is_down` makes every write fail."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.is_down = False
        self.read: set[str] = set()

    def put(self, key: str, data: bytes) -> None:
        if self.is_down:
            raise StorageError("store down")
        assert key not in self.objects, "segments are immutable"
        self.objects[key] = data

    def get(self, key: str) -> bytes:
        self.read.add(key)
        return self.objects[key]

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def list(self, prefix: str = "") -> list[Item]:
        return [Item(key) for key in self.objects if key.startswith(prefix)]


async def record(folder: Path, run_id: str = "run", store=None, keys=("k1",)) -> None:
    async with Journal(folder, run_id, store) as journal:
        for key in keys:
            journal.record_ask(key, REQUEST, Amount(1, 100))
            await journal.record_answers([Receipt(key, ANSWER, Amount(1, 100), Amount(1, 15))])


async def reopen(folder: Path, run_id: str = "run", store=None) -> Journal:
    async with Journal(folder, run_id, store) as journal:
        return journal


def test_answers_survive(tmp_path: Path) -> None:
    """An answer comes back exactly, with what it cost."""
    asyncio.run(record(tmp_path))
    journal = asyncio.run(reopen(tmp_path))
    assert journal.find("k1") == ANSWER
    assert journal.spent == Amount(1, 15)


def test_batches_are_known_by_their_keys(tmp_path: Path) -> None:
    """A start that asks for more than a batch in work holds finds where that one ends."""

    async def send() -> None:
        async with Journal(tmp_path, "run") as journal:
            journal.record_batch("name", "id", ["k1", "k2"])

    asyncio.run(send())
    journal = asyncio.run(reopen(tmp_path))
    assert journal.count_batched(["k1", "k2", "k3"]) == 2
    assert journal.count_batched(["k1", "k3", "k2"]) == 0
    assert journal.count_batched(["k2", "k3"]) == 0


def test_torn_last_line(tmp_path: Path) -> None:
    """A line torn by a kill costs that line alone, and the next one is not glued to it."""
    asyncio.run(record(tmp_path))
    path = tmp_path / "run.jsonl"
    with path.open("ab") as file:
        file.write(b'{"answer": "k2", "te')
    asyncio.run(record(tmp_path, keys=("k3",)))
    journal = asyncio.run(reopen(tmp_path))
    assert journal.find("k1")
    assert journal.find("k3")
    assert journal.find("k2") is None
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_file_cut_anywhere(tmp_path: Path, cut: int) -> None:
    """However much of the file is lost, what is left is read."""
    asyncio.run(record(tmp_path, keys=("k1", "k2")))
    path = tmp_path / "run.jsonl"
    path.write_bytes(path.read_bytes()[:cut])
    journal = asyncio.run(reopen(tmp_path))
    assert journal.num_answers <= 2


def test_unanswered_request_stays_charged(tmp_path: Path) -> None:
    """A request in flight at the kill may be billed: the budget must count its worst case."""

    async def ask_only() -> None:
        async with Journal(tmp_path, "run") as journal:
            journal.record_ask("k1", REQUEST, Amount(1, 100, 7))
            journal.record_ask("k2", REQUEST, Amount(1, 100, 7))
            journal.record_refusal("k2", Amount(1, 100, 7))

    asyncio.run(ask_only())
    journal = asyncio.run(reopen(tmp_path))
    assert journal.spent == Amount(1, 100, 7)


def test_runs_share_answers_not_spending(tmp_path: Path) -> None:
    """Another run of the namespace reads the answers, and its budget is its own."""
    asyncio.run(record(tmp_path, "first"))
    journal = asyncio.run(reopen(tmp_path, "second"))
    assert journal.find("k1") == ANSWER
    assert journal.spent == Amount()


def test_lost_disk(tmp_path: Path) -> None:
    """With the folder gone, the store's segments bring everything back, spending included."""
    store = MemoryStore()
    asyncio.run(record(tmp_path / "a", store=store))
    asyncio.run(record(tmp_path / "a", store=store, keys=("k2",)))
    segments = set(store.objects)
    assert len(segments) == 2
    store.objects["reports/run.jsonl"] = b"what lies beside them is none of it\n"
    journal = asyncio.run(reopen(tmp_path / "b", store=store))
    assert journal.find("k1") == journal.find("k2") == ANSWER
    assert journal.spent.requests == 2
    assert store.read == segments


def test_killed_before_upload(tmp_path: Path) -> None:
    """Lines that never reached the store are uploaded by the next start, once."""
    store = MemoryStore()
    asyncio.run(record(tmp_path))  # a start without the store stands for a killed one
    asyncio.run(reopen(tmp_path, store=store))
    asyncio.run(reopen(tmp_path, store=store))
    assert len(store.objects) == 1
    journal = asyncio.run(reopen(tmp_path / "elsewhere", store=store))
    assert journal.find("k1") == ANSWER


def test_store_down_at_close(tmp_path: Path) -> None:
    """A copy that could not be made is said, and made by the next start."""
    store = MemoryStore()
    store.is_down = True
    with pytest.raises(StorageError):
        asyncio.run(record(tmp_path, store=store))
    store.is_down = False
    asyncio.run(reopen(tmp_path, store=store))
    assert store.objects


def test_same_run_twice_at_once(tmp_path: Path) -> None:
    """Two processes of one run would pay twice: the second is refused."""

    async def open_twice() -> None:
        async with Journal(tmp_path, "run"):
            Journal(tmp_path, "run")

    with pytest.raises(InputError, match="Another process"):
        asyncio.run(open_twice())


def test_draw_index_is_part_of_the_key() -> None:
    """Two draws of one prompt are two questions; without it they collapse into one answer."""
    second = TeacherRequest(REQUEST.messages, max_tokens=50, draw=1)
    assert REQUEST.compute_key("m", "e") != second.compute_key("m", "e")
    assert REQUEST.compute_key("m", "e") != REQUEST.compute_key("m", "other")
    assert REQUEST.compute_key("m", "e") == TeacherRequest(
        (("user", "one"),), max_tokens=50
    ).compute_key("m", "e")


def test_pause_outlives_the_process(tmp_path: Path) -> None:
    """A Retry-After is kept by the next start too: an early retry is refused again."""

    async def refuse() -> None:
        async with Journal(tmp_path, "run") as journal:
            journal.record_ask("k1", REQUEST, Amount(1, 100, 7))
            journal.record_refusal("k1", Amount(1, 100), 60.0)

    asyncio.run(refuse())
    journal = asyncio.run(reopen(tmp_path))
    assert 50 < journal.find_wait_seconds("k1") <= 60
    assert journal.find_wait_seconds("k2") == 0


def test_many_segments_become_one(tmp_path: Path) -> None:
    """A year of small segments is read as one object, with every answer and all spending in it;
    a start would else make a request for each."""
    store = MemoryStore()
    for number in range(COMPACT_FROM):
        asyncio.run(record(tmp_path / "a", store=store, keys=(f"k{number}",)))
    asyncio.run(reopen(tmp_path / "b", store=store))
    assert len(store.objects) == 1
    journal = asyncio.run(reopen(tmp_path / "c", store=store))
    assert journal.num_answers == COMPACT_FROM
    assert journal.spent == Amount(COMPACT_FROM, 15 * COMPACT_FROM)


def test_segments_that_vanish_while_read(tmp_path: Path) -> None:
    """Another run may put segments together between listing and reading: the list is read anew."""
    store = MemoryStore()
    asyncio.run(record(tmp_path / "a", store=store))

    class Compacted(MemoryStore):
        def get(self, key: str) -> bytes:
            if key in store.objects:
                self.objects = {"segments/z-compact.jsonl": store.objects.pop(key)}
                raise NotFoundError("gone")
            return super().get(key)

    racing = Compacted()
    racing.objects = dict(store.objects)
    journal = asyncio.run(reopen(tmp_path / "b", store=racing))
    assert journal.find("k1") == ANSWER
