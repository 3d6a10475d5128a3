"""file:// stores: conditions, whole-or-nothing writes, errors a reader can act on."""

from __future__ import annotations

import errno
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from loam_runtime.errors import CredentialsError, InputError
from loam_runtime.storage import local
from loam_runtime.storage.base import ConflictError, NotFoundError, ObjectInfo
from loam_runtime.storage.file import FileStore

NUM_WRITERS = 8


def test_an_object_reads_back_and_lists(store: FileStore) -> None:
    """What was put is what is got, under exactly its key; `a` never lists `ab`."""
    store.put("a/x", b"1")
    store.put("ab/y", b"22")
    assert store.get("a/x") == b"1"
    assert store.list() == [ObjectInfo("a/x", 1, ""), ObjectInfo("ab/y", 2, "")]
    assert [info.key for info in store.list("a/")] == ["a/x"]
    assert store.list("nothing") == []
    assert store.stat("ab/y").size == 2
    assert store.exists("a/x")
    assert not store.exists("a")


def test_a_part_reads_back(store: FileStore) -> None:
    """What a plan reads of weights: from where it asks, and to the end at most."""
    store.put("a", b"0123456789")
    assert store.get_range("a", 3, 4) == b"3456"
    assert store.get_range("a", 8, 4) == b"89"
    with pytest.raises(NotFoundError):
        store.get_range("none", 0, 1)


def test_delete_is_idempotent(store: FileStore) -> None:
    store.put("a", b"1")
    store.delete("a")
    store.delete("a")
    assert not store.exists("a")


def test_a_folder_goes_with_its_last_object(store: FileStore) -> None:
    """Rotated checkpoints must not leave a trail of empty folders, nor break who writes there."""
    root = Path(store.uri.removeprefix("file://"))
    store.put("steps/1/a", b"1")
    store.put("steps/1/b", b"1")
    store.delete("steps/1/a")
    assert store.exists("steps/1/b")
    store.delete("steps/1/b")
    assert not (root / "steps/1").exists()
    store.put("steps/1/a", b"2")
    assert store.get("steps/1/a") == b"2"


def test_removing_a_folder_never_fails_a_writer(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may remove the folder between its making and its use."""
    pathlib_open, removed = Path.open, []

    def open_late(path: Path, mode: str) -> object:
        if not removed:
            removed.append(path.parent)
            path.parent.rmdir()
        return pathlib_open(path, mode)

    monkeypatch.setattr(Path, "open", open_late)
    store.put("shared/a", b"1")
    assert removed == [Path(store.uri.removeprefix("file://")) / "shared"]
    assert store.exists("shared/a")


def test_missing_objects_raise_not_found(store: FileStore, tmp_path: Path) -> None:
    """Absence has an error of its own: resuming asks "is it there?" by it."""
    for read in (store.get, store.get_with_etag, store.stat):
        with pytest.raises(NotFoundError, match="none"):
            read("none")
    with pytest.raises(NotFoundError):
        store.download_file("none", tmp_path / "x")
    with pytest.raises(NotFoundError):
        store.upload_file(tmp_path / "no-such-file", "x")


def test_conditions(store: FileStore) -> None:
    """A conditional put writes only over what its writer saw."""
    etag = store.put("k", b"1", if_none_match=True)
    with pytest.raises(ConflictError):
        store.put("k", b"2", if_none_match=True)
    assert store.get_with_etag("k") == (b"1", etag)
    new_etag = store.put("k", b"2", if_match=etag)
    with pytest.raises(ConflictError):
        store.put("k", b"3", if_match=etag)
    with pytest.raises(ConflictError):
        store.put("gone", b"3", if_match=new_etag)
    assert store.get("k") == b"2"


def _try_to_create(root: str, writer: int) -> bool:
    try:
        FileStore(Path(root)).put("lock", str(writer).encode(), if_none_match=True)
    except ConflictError:
        return False
    return True


def test_of_many_processes_one_creates(store: FileStore) -> None:
    """Two winners would be two writers of one run."""
    root = store.uri.removeprefix("file://")
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(NUM_WRITERS, mp_context=context) as pool:
        for _ in range(5):
            won = list(pool.map(_try_to_create, [root] * NUM_WRITERS, range(NUM_WRITERS)))
            assert won.count(True) == 1
            assert store.get("lock") == str(won.index(True)).encode()
            store.delete("lock")


def test_bookkeeping_files_are_not_objects(store: FileStore) -> None:
    """The lock file and a killed writer's unfinished file must not be published."""
    store.put("a/x", b"1", if_none_match=True)
    root = Path(store.uri.removeprefix("file://"))
    (root / "a" / ".loam-0123").write_bytes(b"half")
    assert [info.key for info in store.list()] == ["a/x"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_and_leaves_nothing(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A full disk (it may show only when written back) must not leave half an object."""
    source = tmp_path / "source"
    source.write_bytes(b"new" * 1000)
    store.put("k", b"old")

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(local.os, "fsync", fail)
    for write in (lambda: store.put("k", b"new"), lambda: store.upload_file(source, "k")):
        with pytest.raises(InputError, match="No space left"):
            write()
    root = Path(store.uri.removeprefix("file://"))
    assert os.listdir(root) == ["k"]
    assert store.get("k") == b"old"


def test_a_download_that_fails_keeps_the_old_file(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local file is replaced whole or not at all, and nothing half-written stays."""
    store.put("k", b"new")
    target = tmp_path / "there" / "file"
    target.parent.mkdir()
    target.write_bytes(b"old")

    def fail(source: object, destination: object) -> str:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("loam_runtime.storage.file.copy_hashing", fail)
    with pytest.raises(InputError, match="No space left"):
        store.download_file("k", target)
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert target.read_bytes() == b"old"


def test_a_key_under_a_file_is_refused(store: FileStore) -> None:
    store.put("a", b"1")
    with pytest.raises(InputError, match="file and a folder"):
        store.put("a/b", b"2")


def test_new_files_follow_the_umask(store: FileStore) -> None:
    """Others may read what is published, unless the user's umask says no."""
    store.put("k", b"1")
    path = Path(store.uri.removeprefix("file://")) / "k"
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_refused_access_is_a_credentials_error(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit codes tell "may not" from "is not there"."""

    def fail(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(CredentialsError, match="refused"):
        store.get("k")
