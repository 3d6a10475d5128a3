"""Checkpoints are whole or not there, and the ones that matter are kept."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loam_runtime.errors import StorageError
from loam_runtime.storage.registry import open_store
from loam_runtime.training import checkpoint
from loam_runtime.training.checkpoint import CheckpointStore
from loam_runtime.training.distributed import Distributed
from loam_runtime.training.state_files import name_shard, read_shards, write_shard

CPU = Distributed(torch.device("cpu"))


@pytest.fixture
def storage(tmp_path):
    return open_store(f"file://{tmp_path}/store")


@pytest.fixture
def checkpoints(storage, tmp_path):
    return CheckpointStore(storage, tmp_path / "work", keep_last=2)


def _save(checkpoints, step, best=-1):
    checkpoints.save(step, {"weight": torch.full((3,), float(step))}, {"step": step}, CPU, best)
    return checkpoints.wait()


def _list_steps(storage):
    return {
        int(info.key.split("/")[1].removeprefix("step-")) for info in storage.list("checkpoints")
    }


def test_state_comes_back_bit_equal(checkpoints):
    """NaN payloads, denormals and half precision included: a checkpoint copies, never converts."""
    bits = torch.tensor([0x7FC00001, 1, -1, 0x00000010], dtype=torch.int32)
    saved = {
        "a": bits.view(torch.float32),
        "b": torch.randn(2, 3).bfloat16(),
        "n": torch.tensor(7.0),
    }
    checkpoints.save(5, saved, {"losses": [0.1 + 0.2]}, CPU, -1)
    record = checkpoints.wait()
    assert (record.step, record.num_bytes > 0, record.seconds > 0) == (5, True, True)
    loaded = {name: torch.zeros_like(tensor) for name, tensor in saved.items()}
    checkpoints.load(5, loaded, CPU)
    assert checkpoints.load_loop(5) == {"losses": [0.1 + 0.2]}
    assert torch.equal(loaded["a"].view(torch.int32), bits)
    assert torch.equal(loaded["b"], saved["b"])
    assert loaded["n"] == 7


class SlowStore:
    """A store and its clock: an upload takes ten seconds, and begins when it may.

    Attributes:
        on_look: called after each look at the clock.
    """

    def __init__(self, storage) -> None:
        self._storage = storage
        self._now = 0.0
        self.may_begin = threading.Event()
        self.on_look = lambda: None

    def __getattr__(self, name):
        return getattr(self._storage, name)

    def upload_file(self, path, key):
        assert self.may_begin.wait(10)
        self._now += 10 if key.endswith(".json") else 0
        return self._storage.upload_file(path, key)

    def perf_counter(self) -> float:
        now = self._now
        self.on_look()
        return now


def test_only_what_training_waits_for_is_a_wait(storage, tmp_path, monkeypatch):
    """An upload goes on behind the next steps: the GPUs that are idle for a checkpoint are those of
    its writing, and of an upload that has to be waited for."""
    store = SlowStore(storage)
    monkeypatch.setattr(checkpoint, "time", store)
    checkpoints = CheckpointStore(store, tmp_path / "work")
    checkpoints.save(1, {"weight": torch.zeros(3)}, {}, CPU, -1)
    store.may_begin.set()
    checkpoints._upload.result()  # meanwhile training goes on
    behind = checkpoints.poll()
    store.may_begin.clear()
    checkpoints.save(2, {"weight": torch.zeros(3)}, {}, CPU, -1)
    store.on_look = store.may_begin.set  # once somebody waits for it
    before = checkpoints.wait()
    assert (behind.seconds, behind.waited_seconds) == (10, 0)
    assert (before.seconds, before.waited_seconds) == (10, 10)


def test_rotation_keeps_the_last_and_the_best(checkpoints, storage):
    """A best checkpoint rotated away leaves nothing to return to after early stopping."""
    for step in (1, 2, 3, 4, 5):
        _save(checkpoints, step, best=2)
    assert _list_steps(storage) == {2, 4, 5}


def test_checkpoint_without_all_markers_is_ignored(checkpoints, storage):
    """A process killed during an upload must not make its successor start from half a state."""
    _save(checkpoints, 1)
    storage.put("checkpoints/step-00000009/state-00000-of-00002.safetensors", b"half")
    storage.put("checkpoints/step-00000009/complete-00000-of-00002", b"1 of 2")
    assert checkpoints.latest() == 1
    checkpoints.remove_incomplete()
    assert _list_steps(storage) == {1}


def test_failed_upload_is_raised(checkpoints, storage, monkeypatch):
    """A run that believes in checkpoints it does not have loses hours."""

    def fail(path, key):
        raise StorageError("the store is down")

    monkeypatch.setattr(storage, "upload_file", fail, raising=True)
    checkpoints.save(1, {"weight": torch.zeros(3)}, {}, CPU, -1)
    with pytest.raises(StorageError, match="down"):
        checkpoints.wait()
    assert checkpoints.latest() is None


def test_unusable_disk_is_named(storage, tmp_path):
    """A full or broken scratch disk is not a bug in Loam: the message says where and what to do."""
    (tmp_path / "file").write_text("in the way")
    checkpoints = CheckpointStore(storage, tmp_path / "file" / "work")
    with pytest.raises(StorageError, match=r"cannot be written to .*file/work/step-00000003"):
        checkpoints.save(3, {"weight": torch.zeros(3)}, {}, CPU, -1)


def test_state_of_another_model_is_refused(checkpoints):
    """Copying what happens to fit would resume a chimera."""
    _save(checkpoints, 1)
    with pytest.raises(StorageError, match="other"):
        checkpoints.load(1, {"other": torch.zeros(3)}, CPU)
    with pytest.raises(StorageError, match="weight"):
        checkpoints.load(1, {"weight": torch.zeros(4)}, CPU)


@given(rows=st.integers(1, 9), saved=st.integers(1, 5), wanted=st.integers(1, 5))
def test_shards_are_cut_anew_for_another_number_of_workers(rows, saved, wanted, tmp_path_factory):
    """A run that lost a worker for good resumes on fewer, also where there are more workers than
    rows and some shards are empty."""
    folder = tmp_path_factory.mktemp("shards")
    whole = torch.randn(rows, 2)
    for rank in range(saved):
        write_shard({"w": _cut(whole, rank, saved)}, folder / name_shard(rank, saved))
    for rank in range(wanted):
        expected = _cut(whole, rank, wanted)
        own = {"w": torch.zeros_like(expected)}
        read_shards(own, folder, rank, wanted, saved)
        assert torch.equal(own["w"], expected)


def _cut(whole: torch.Tensor, rank: int, num_shards: int) -> torch.Tensor:
    """FSDP2's rule."""
    chunks = whole.chunk(num_shards)
    return chunks[rank].clone() if rank < len(chunks) else whole[:0].clone()
