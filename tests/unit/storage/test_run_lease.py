"""The lock of a run as a lease: who is gone is succeeded, who lives is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest
from tests.tools.waiting import wait_until

from loam_runtime.errors import FencedError, RunTakenError
from loam_runtime.storage.file import FileStore
from loam_runtime.storage.run_lock import LockRecord, build_claim, parse_lock
from loam_runtime.storage.run_store import RunStore

OWNER = "default/job"
OTHER = "default/other"
LOCK = "runs/abc123/lock.json"
BRIEF = 0.02  # seconds between renewals that nobody makes
LONG = 6.0  # and between some that are made before anybody can give up


def hold_elsewhere(store: FileStore, **changes: object) -> LockRecord:
    """Leave the lock of a process on another machine."""
    record = replace(build_claim(None, OWNER, 1), host="node-1", **changes)
    store.put(LOCK, record.to_bytes())
    return record


def read_lock(store: FileStore) -> LockRecord:
    return parse_lock(store.get(LOCK))


@pytest.mark.parametrize("owner", [OWNER, OTHER])
def test_who_does_not_renew_is_succeeded(store: FileStore, owner: str) -> None:
    """A machine that is gone left its lock for ever, and somebody had to remove it by hand."""
    hold_elsewhere(store, renew_seconds=BRIEF)
    run = RunStore(store, "abc123")
    run.acquire(owner, 1)
    assert run.token == 2
    run.check_fence()


@pytest.mark.parametrize(("owner", "error"), [(OWNER, FencedError), (OTHER, RunTakenError)])
def test_who_renews_is_named(store: FileStore, owner: str, error: type[FencedError]) -> None:
    """Two jobs that make the same run: the second must not pay for it, too."""
    held = hold_elsewhere(store, renew_seconds=LONG)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(RunStore(store, "abc123").acquire, owner, 1)
        while not wait([second], timeout=0.05).done:
            held = held.renew()
            store.put(LOCK, held.to_bytes())
        with pytest.raises(error, match=f"by attempt 1 of {OWNER} .* on node-1") as caught:
            second.result()
    assert type(caught.value) is error
    assert "lock.json" not in caught.value.remedy
    assert read_lock(store) == held


class CountingStore(FileStore):
    """Counts how often the lock was looked at."""

    num_looks = 0

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        self.num_looks += key == LOCK
        return super().get_with_etag(key)


def test_who_lets_go_is_succeeded_at_once(tmp_path: Path) -> None:
    """The lease of a job that ended while another looked must not count as that of a living one."""
    store = CountingStore(tmp_path)
    held = hold_elsewhere(store, renew_seconds=LONG)
    run = RunStore(store, "abc123")
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(run.acquire, OTHER, 1)
        wait_until(lambda: store.num_looks >= 2, "the second job to wait")
        store.put(LOCK, held.release().to_bytes())
        second.result()
    assert (run.token, read_lock(store).owner) == (2, OTHER)


def test_an_outdated_attempt_does_not_wait(store: FileStore) -> None:
    """A late pod of an attempt that was given up must not slip in between two others."""
    held = hold_elsewhere(store, attempt=5, renew_seconds=BRIEF)
    with pytest.raises(FencedError):
        RunStore(store, "abc123").acquire(OWNER, 4)
    assert read_lock(store) == held


def test_a_holder_renews_until_it_lets_go(store: FileStore) -> None:
    """Only its own lock, and without a new token: its workers go on writing in its name."""
    run, worker = RunStore(store, "abc123", renew_seconds=BRIEF), RunStore(store, "abc123")
    run.acquire(OWNER, 1)
    worker.attach(run.token)
    wait_until(lambda: read_lock(store).num_renewals >= 2, "two renewals")
    worker.check_fence()
    run.release()
    released = read_lock(store)
    assert not released.held
    run.renew()
    assert read_lock(store) == released
    later = RunStore(store, "abc123")
    later.acquire(OTHER, 1)
    held = read_lock(store)
    run.renew()
    assert read_lock(store) == held


HOLDER = """
import socket, sys
from pathlib import Path
from loam_runtime.errors import FencedError
from loam_runtime.storage.file import FileStore
from loam_runtime.storage.run_store import RunStore

socket.gethostname = lambda: "node-1"
run = RunStore(FileStore(Path(sys.argv[1])), "abc123", renew_seconds=1.0)
run.acquire("default/job", 1)
print("held", flush=True)
input()
try:
    run.publish({})
except FencedError:
    print("fenced out", flush=True)
"""


def test_a_sleeper_wakes_up_fenced_out(store: FileStore) -> None:
    """A machine that stood still for longer than its lease finds another in its place.

    It is stopped between two renewals: in the middle of one it would keep the file store's lock.
    """
    root = store.uri.removeprefix("file://")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            holder.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
            run = RunStore(store, "abc123")
            run.acquire(OTHER, 1)
            holder.send_signal(signal.SIGCONT)
            said, _ = holder.communicate(b"\n", timeout=60)
        finally:
            holder.kill()
    assert said == b"fenced out\n"
    run.check_fence()
    assert not run.is_finished()


class UnconditionalStore(FileStore):
    """A store that ignores conditions, as some S3-compatible ones do."""

    def put(self, key: str, data: bytes, **conditions: object) -> str:
        return super().put(key, data)


def test_no_lease_without_conditions(tmp_path: Path) -> None:
    """There a renewal could write over its successor's lock, and so nobody may count on it."""
    store = UnconditionalStore(tmp_path)
    RunStore(store, "abc123", renew_seconds=BRIEF).acquire(OWNER, 1)
    assert read_lock(store).renew_seconds == 0
