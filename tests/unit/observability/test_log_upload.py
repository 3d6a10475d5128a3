"""The log of a run is stored while it runs, and the run does not notice."""

from __future__ import annotations

import threading
from pathlib import Path

from loam_runtime.observability.log_upload import upload_regularly

WAIT_SECONDS = 30
HANG_SECONDS = 10


def test_what_was_written_is_stored_before_the_end(tmp_path: Path):
    """A killed process uploads nothing at its end, and its log is the one that is wanted."""
    log = tmp_path / "1" / "log.jsonl"
    log.parent.mkdir()
    log.write_bytes(b"one\n")
    seen: dict[str, bytes] = {}
    has_first, has_second = threading.Event(), threading.Event()

    def put(key: str, data: bytes) -> None:
        seen[key] = data
        (has_second if b"two" in data else has_first).set()

    with upload_regularly(tmp_path, put, 0.01):
        assert has_first.wait(WAIT_SECONDS)
        with log.open("ab") as file:
            file.write(b"two\n")
        assert has_second.wait(WAIT_SECONDS)
    assert seen == {"1/log.jsonl": b"one\ntwo\n"}


def test_what_has_not_grown_is_not_stored_again(tmp_path: Path):
    """A run that trains for a week writes little; its old lines need no further upload."""
    (tmp_path / "a").write_bytes(b"a")
    keys: list[str] = []
    has_second = threading.Event()

    def put(key: str, data: bytes) -> None:
        keys.append(key)
        if key == "a":
            (tmp_path / "b").write_bytes(b"b")
        else:
            has_second.set()

    with upload_regularly(tmp_path, put, 0.01):
        assert has_second.wait(WAIT_SECONDS)
    assert keys == ["a", "b"]


def test_a_store_that_fails_is_asked_again_and_breaks_nothing(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"a")
    attempts: list[int] = []
    is_done = threading.Event()

    def put(key: str, data: bytes) -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise OSError("the store is away")
        is_done.set()

    with upload_regularly(tmp_path, put, 0.01):
        assert is_done.wait(WAIT_SECONDS)


def test_a_store_that_hangs_holds_nobody_up(tmp_path: Path):
    """The end of the run must not wait for an upload that may never end."""
    (tmp_path / "a").write_bytes(b"a")
    has_begun, may_end, has_ended = threading.Event(), threading.Event(), threading.Event()

    def put(key: str, data: bytes) -> None:
        has_begun.set()
        may_end.wait(HANG_SECONDS)
        has_ended.set()

    with upload_regularly(tmp_path, put, 0.01):
        assert has_begun.wait(WAIT_SECONDS)
    assert not has_ended.is_set()
    may_end.set()
