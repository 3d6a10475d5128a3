"""A run's folder: one writer at a time, in the order that readers rely on."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from loam_runtime.errors import FencedError, RunTakenError, StorageError
from loam_runtime.storage import run_store
from loam_runtime.storage.base import NotFoundError
from loam_runtime.storage.conditions import supports_conditions
from loam_runtime.storage.file import FileStore
from loam_runtime.storage.run_lock import LockRecord, build_claim
from loam_runtime.storage.run_store import RunStore

OWNER = "default/job"


@pytest.fixture
def run(store: FileStore) -> RunStore:
    return RunStore(store, "abc123")


def hold_lock_elsewhere(store: FileStore, **changes: object) -> None:
    """Leave a lock as another process, host or attempt would."""
    record = replace(build_claim(None, OWNER, 1), **changes)
    store.put("runs/abc123/lock.json", record.to_bytes())


def test_writing_needs_the_lock(run: RunStore) -> None:
    """A process that skipped `acquire` must not be able to damage another's run."""
    for write in (lambda: run.put("a", b"1"), lambda: run.delete("a"), lambda: run.publish({})):
        with pytest.raises(FencedError):
            write()


def test_what_is_written_lies_under_the_run(run: RunStore, store: FileStore) -> None:
    run.acquire(OWNER, 1)
    run.put("data/rows.jsonl", b"1")
    assert store.get("runs/abc123/data/rows.jsonl") == b"1"
    assert [info.key for info in run.list("data")] == ["data/rows.jsonl"]
    assert run.get("data/rows.jsonl") == b"1"
    assert run.stat("data/rows.jsonl").key == "data/rows.jsonl"
    run.delete("data/rows.jsonl")
    assert not run.exists("data/rows.jsonl")


def test_folders_of_a_run(run: RunStore, tmp_path: Path) -> None:
    """Keys of an upload are those that the manifest names and a reader finds."""
    run.acquire(OWNER, 1)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "f").write_bytes(b"1")
    digests = run.upload_folder(tmp_path / "in", "adapter")
    assert list(digests) == ["adapter/sub/f"]
    assert list(run.download_folder("adapter", tmp_path / "out")) == ["sub/f"]
    assert (tmp_path / "out" / "sub" / "f").read_bytes() == b"1"


def test_tokens_only_grow(store: FileStore) -> None:
    """A token that came twice would let a fenced-out writer pass for its successor."""
    tokens = []
    for _ in range(3):
        run = RunStore(store, "abc123")
        run.acquire(OWNER, 1)
        tokens.append(run.token)
        run.release()
    assert tokens == [1, 2, 3]


def test_a_later_attempt_fences_out_the_earlier(store: FileStore) -> None:
    """A pod that was given up for dead and comes back must not write into its successor's run."""
    earlier, later = RunStore(store, "abc123"), RunStore(store, "abc123")
    hold_lock_elsewhere(store, host="node-1", pid=7)
    with pytest.raises(FencedError, match=r"attempt 1 of default/job \(process 7 on node-1\)"):
        earlier.acquire(OWNER, 1)
    earlier.acquire(OWNER, 2)
    later.acquire(OWNER, 3)
    with pytest.raises(FencedError, match="attempt 3"):
        earlier.check_fence()
    with pytest.raises(FencedError):
        earlier.publish({})
    assert not later.is_finished()
    later.check_fence()


def test_an_earlier_attempt_is_refused(store: FileStore) -> None:
    hold_lock_elsewhere(store, host="node-1", attempt=5)
    with pytest.raises(FencedError):
        RunStore(store, "abc123").acquire(OWNER, 4)


def test_another_job_is_refused_whatever_its_attempt(store: FileStore) -> None:
    """Attempts compare within one job only."""
    hold_lock_elsewhere(store, host="node-1")
    with pytest.raises(RunTakenError, match=r"remove the run's lock.json"):
        RunStore(store, "abc123").acquire("default/other", 9)


def test_whom_a_deleted_job_shuts_out_is_told_the_way(store: FileStore) -> None:
    """Killed pods leave their lock for ever. Another job of the same inputs and output must not
    break it, for they may still write: but its owner can, under the first one's name."""
    hold_lock_elsewhere(store, host="head-1", uid="u")
    run = RunStore(store, "abc123")
    with pytest.raises(RunTakenError, match=f"by attempt 1 of {OWNER} .*under its own name"):
        run.acquire("default/other", 1, uid="v")
    run.acquire(OWNER, 1, uid="w")


def test_pods_that_a_queue_admits_again_take_over(store: FileStore) -> None:
    """Preemption leaves the lock with pods that were killed; without this the attempt would
    never go on, and with more than this a late pod of an earlier attempt could break in."""
    hold_lock_elsewhere(store, host="head-1", attempt=2, uid="u", incarnation="raysubmit_1")
    run = RunStore(store, "abc123")
    with pytest.raises(FencedError):
        run.acquire(OWNER, 1, uid="u", incarnation="raysubmit_0")
    with pytest.raises(FencedError):
        run.acquire(OWNER, 2, uid="u", incarnation="raysubmit_1")
    run.acquire(OWNER, 2, uid="u", incarnation="raysubmit_2")
    run.check_fence()


def test_a_job_created_anew_takes_over(store: FileStore) -> None:
    """Its attempts count from 1 again; the lock of the deleted job would stay for ever."""
    hold_lock_elsewhere(store, host="head-1", attempt=7, uid="old", incarnation="raysubmit_1")
    RunStore(store, "abc123").acquire(OWNER, 1, uid="new", incarnation="raysubmit_9")


HOLDING_RUN = """
import sys
from pathlib import Path
from loam_runtime.storage.file import FileStore
from loam_runtime.storage.run_store import RunStore

RunStore(FileStore(Path(sys.argv[1])), "abc123").acquire("default/job", 1)
print("held", flush=True)
input()
"""


def test_two_runs_on_one_machine(store: FileStore) -> None:
    """The second `loam run` refuses while the first lives, and goes on once it was killed."""
    root = store.uri.removeprefix("file://")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING_RUN, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        run = RunStore(store, "abc123")
        with pytest.raises(FencedError, match=str(holder.pid)):
            run.acquire(OWNER, 1)
        holder.kill()  # a zombie until it is waited for: that counts as dead too
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        run.acquire(OWNER, 1)
        assert run.token == 2
    finally:
        holder.kill()
        holder.communicate()


def test_a_reused_pid_is_not_the_holder(store: FileStore) -> None:
    """After a reboot the pid in the lock may belong to any process: the run must go on."""
    hold_lock_elsewhere(store, pid=os.getppid(), started="an-earlier-boot-1")
    RunStore(store, "abc123").acquire(OWNER, 1)


def test_the_same_process_may_acquire_again(store: FileStore) -> None:
    """A notebook that runs the job a second time is not locked out by itself."""
    first, second = RunStore(store, "abc123"), RunStore(store, "abc123")
    first.acquire(OWNER, 1)
    second.acquire(OWNER, 1)
    with pytest.raises(FencedError):
        first.check_fence()


def test_of_many_claims_at_once_each_token_is_given_once(store: FileStore) -> None:
    """Two holders of one token would both pass the fence."""
    runs = [RunStore(store, "abc123") for _ in range(8)]

    def claim(attempt: int) -> int:
        try:
            runs[attempt].acquire(OWNER, attempt)
        except FencedError:
            return 0
        return runs[attempt].token

    with ThreadPoolExecutor(8) as pool:
        tokens = [token for token in pool.map(claim, range(8)) if token]
    assert len(set(tokens)) == len(tokens) >= 1
    holders = [run for run in runs if run.token == max(tokens)]
    assert len(holders) == 1
    holders[0].check_fence()


def test_a_worker_writes_in_the_holders_name(store: FileStore) -> None:
    """A training worker is fenced out together with the process that started it."""
    holder, worker = RunStore(store, "abc123"), RunStore(store, "abc123")
    holder.acquire(OWNER, 1)
    worker.attach(holder.token)
    worker.put("checkpoints/1", b"1")
    RunStore(store, "abc123").acquire(OWNER, 2)
    with pytest.raises(FencedError):
        worker.check_fence()
    with pytest.raises(FencedError):
        RunStore(store, "abc123").attach(holder.token)


def test_writes_look_at_the_lock_now_and_then(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand checkpoints' files must not cost a thousand reads, nor slip past the fence."""
    run = RunStore(store, "abc123")
    run.acquire(OWNER, 1)
    reads = []
    read_lock = run._read_lock
    monkeypatch.setattr(run, "_read_lock", lambda: reads.append(1) or read_lock())
    for index in range(20):
        run.put(f"f{index}", b"1")
    assert len(reads) == 0
    RunStore(store, "abc123").acquire(OWNER, 2)
    monkeypatch.setattr(run_store, "FENCE_CHECK_SECONDS", 0)
    with pytest.raises(FencedError):
        run.put("late", b"1")
    assert not run.exists("late")


def test_release_lets_the_next_in_and_only_its_own_lock_go(store: FileStore) -> None:
    """Releasing late must not open a successor's lock."""
    first, second = RunStore(store, "abc123"), RunStore(store, "abc123")
    first.acquire(OWNER, 1)
    second.acquire(OWNER, 2)
    first.release()
    second.check_fence()
    second.release()
    with pytest.raises(FencedError):
        second.put("a", b"1")


class RecordingStore(FileStore):
    """Remembers what was written in which order, and can die before a write."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.written: list[str] = []
        self.dies_at = ""

    def put(self, key: str, data: bytes, **conditions: object) -> str:
        if self.dies_at and key.endswith(self.dies_at):
            raise StorageError("killed")
        self.written.append(key)
        return super().put(key, data, **conditions)


def test_publication_order(tmp_path: Path) -> None:
    """`_SUCCESS` after the manifest, `latest.json` last: a reader of either finds the rest."""
    store = RecordingStore(tmp_path)
    run = RunStore(store, "abc123")
    run.acquire(OWNER, 1)
    store.written.clear()
    run.publish({"model": "m"})
    root = "runs/abc123"
    assert store.written == [f"{root}/manifest.json", f"{root}/_SUCCESS", "latest.json"]
    assert run.is_finished()
    latest = json.loads(store.get("latest.json"))
    assert latest["runKey"] == "abc123"
    assert json.loads(store.get(latest["manifest"])) == {"model": "m"}


@pytest.mark.parametrize("dies_at", ["manifest.json", "_SUCCESS"])
def test_a_publication_that_dies_is_not_finished(tmp_path: Path, dies_at: str) -> None:
    """Without `_SUCCESS` the run is not done, and `latest.json` must not name it."""
    store = RecordingStore(tmp_path)
    run = RunStore(store, "abc123")
    run.acquire(OWNER, 1)
    store.dies_at = dies_at
    with pytest.raises(StorageError):
        run.publish({})
    assert not run.is_finished()
    assert not store.exists("latest.json")


def test_ensure_latest_ends_a_killed_publication(tmp_path: Path) -> None:
    """Killed between `_SUCCESS` and `latest.json`, the finished run would never be found."""
    store = RecordingStore(tmp_path)
    run = RunStore(store, "abc123")
    run.acquire(OWNER, 1)
    store.dies_at = "latest.json"
    with pytest.raises(StorageError):
        run.publish({})
    assert run.is_finished()
    store.dies_at = ""
    RunStore(store, "abc123").ensure_latest()
    assert json.loads(store.get("latest.json"))["runKey"] == "abc123"


def test_ensure_latest_does_not_go_back_in_time(store: FileStore) -> None:
    """Running an old finished job again must not hide the newer run."""
    old, new = RunStore(store, "old"), RunStore(store, "new")
    for run in (old, new):
        run.acquire(OWNER, 1)
        run.publish({})
    old.ensure_latest()
    assert json.loads(store.get("latest.json"))["runKey"] == "new"


class InterruptedStore(FileStore):
    """Lets something happen just after `latest.json` was read, once."""

    happens: Callable[[], None] | None = None

    def get(self, key: str) -> bytes:
        try:
            return super().get(key)
        finally:
            if key == "latest.json" and self.happens:
                happens, self.happens = self.happens, None
                happens()


@pytest.mark.parametrize("is_first", [True, False])
def test_of_two_runs_that_end_together_the_later_is_named(tmp_path: Path, is_first: bool) -> None:
    """The older run may look before the newer one is there, and write after it: `latest.json`
    would name the older for good, and be what `report` and `predict` go by."""
    store = InterruptedStore(tmp_path)
    before, old, new = (RunStore(store, name) for name in ("before", "old", "new"))
    for run in (before, old, new):
        run.acquire(OWNER, 1)
    if not is_first:
        before.publish({})
    store.happens = lambda: new.publish({})
    old.publish({})
    assert store.happens is None
    assert json.loads(store.get("latest.json"))["runKey"] == "new"


@pytest.mark.parametrize("kind", ["unconditional", "refusing"])
def test_a_run_is_named_on_a_store_without_conditions(kind: str, tmp_path: Path) -> None:
    """A worker that publishes did not take the lock itself and knows nothing of its store: what
    the store cannot do must not fail a run at its very end."""
    store = {"unconditional": UnconditionalStore, "refusing": RefusingStore}[kind](tmp_path)
    leader, worker = RunStore(store, "abc123"), RunStore(store, "abc123")
    leader.acquire(OWNER, 1)
    worker.attach(leader.token)
    worker.publish({})
    assert json.loads(store.get("latest.json"))["runKey"] == "abc123"


def test_reading_a_run_needs_no_lock(store: FileStore) -> None:
    reader = RunStore(store, "abc123")
    assert not reader.is_finished()
    assert reader.list() == []
    with pytest.raises(NotFoundError):
        reader.get("manifest.json")


class UnconditionalStore(FileStore):
    """A store that ignores conditions, as some S3-compatible ones do."""

    def put(self, key: str, data: bytes, **conditions: object) -> str:
        return super().put(key, data)


class RefusingStore(FileStore):
    """A store that answers that it has no conditions."""

    def put(
        self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None
    ) -> str:
        if if_none_match or if_match:
            raise StorageError("NotImplemented")
        return super().put(key, data)


@pytest.mark.parametrize("kind", [UnconditionalStore, RefusingStore])
def test_a_store_without_conditions_works_with_a_warning(
    kind: type[FileStore], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The user is told which guarantee is lost; the job still runs, the fence still holds."""
    store = kind(tmp_path)
    run = RunStore(store, "abc123")
    with caplog.at_level(logging.WARNING):
        run.acquire(OWNER, 1)
    assert "conditional puts" in caplog.text
    assert not run.has_conditions
    run.publish({})
    later = RunStore(store, "abc123")
    later.acquire(OWNER, 2)
    with pytest.raises(FencedError):
        run.check_fence()


def test_the_probe_leaves_nothing(store: FileStore) -> None:
    assert supports_conditions(store, "runs/x")
    assert store.list() == []


def test_a_foreign_lock_file_is_said(store: FileStore) -> None:
    """Something else that writes there is not overwritten."""
    store.put("runs/abc123/lock.json", b'{"not": "ours"}')
    with pytest.raises(StorageError, match=r"lock\.json"):
        RunStore(store, "abc123").acquire(OWNER, 1)


def test_lock_records_survive_the_way_through_json() -> None:
    record = build_claim(None, OWNER, 1)
    assert LockRecord(**json.loads(record.to_bytes())) == record
