"""The content cache and the digests of local files."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loam_runtime.storage import cache, digests
from loam_runtime.storage.base import NotFoundError, ObjectInfo
from loam_runtime.storage.cache import cache_dir, digest_path, fetch
from loam_runtime.storage.file import FileStore
from loam_runtime.storage.local import hash_file


class RemoteStore(FileStore):
    """A file store that stands for a remote one: it has etags and counts its downloads."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.num_downloads = 0

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        return [self.stat(info.key) for info in super().list(prefix)]

    def download_file(self, key: str, path: Path) -> str:
        self.num_downloads += 1
        return super().download_file(key, path)


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteStore:
    store = RemoteStore(tmp_path / "remote")
    monkeypatch.setattr(cache, "open_store", lambda uri, revision="": store)
    return store


def test_a_local_path_is_used_where_it_is(tmp_path: Path) -> None:
    """A 20 GB model on the disk is not copied."""
    (tmp_path / "seeds.csv").write_bytes(b"x")
    assert fetch("file://seeds.csv", base_dir=tmp_path) == tmp_path / "seeds.csv"
    with pytest.raises(NotFoundError, match="none"):
        fetch("file://none", base_dir=tmp_path)


def test_a_file_and_a_folder_are_downloaded_once(remote: RemoteStore) -> None:
    """The same content is not paid for twice; a file keeps its name, for its ending matters."""
    remote.put("m/model.gguf", b"weights")
    remote.put("m/sub/tokenizer.json", b"{}")
    file = fetch("s3://bucket/m/model.gguf")
    assert (file.name, file.read_bytes()) == ("model.gguf", b"weights")
    folder = fetch("s3://bucket/m")
    assert (folder / "sub" / "tokenizer.json").read_bytes() == b"{}"
    assert remote.num_downloads == 3
    assert fetch("s3://bucket/m/model.gguf") == file
    assert fetch("s3://bucket/m/") == folder
    assert remote.num_downloads == 3


def test_changed_content_is_downloaded_anew(remote: RemoteStore) -> None:
    """A stale copy would train on yesterday's data without a word."""
    remote.put("seeds.csv", b"one")
    first = fetch("s3://bucket/seeds.csv")
    remote.put("seeds.csv", b"two")
    assert fetch("s3://bucket/seeds.csv").read_bytes() == b"two"
    assert first.read_bytes() == b"one", "a job that still reads the old one keeps it"


def test_a_folder_of_one_file_is_not_that_file(remote: RemoteStore) -> None:
    """Both list the same single object, yet one is a path to a folder, the other to a file."""
    remote.put("m/x", b"1")
    assert fetch("s3://bucket/m/x").is_file()
    assert (fetch("s3://bucket/m") / "x").is_file()
    assert (fetch("s3://bucket") / "m" / "x").is_file()


def test_nothing_there_is_said(remote: RemoteStore) -> None:
    with pytest.raises(NotFoundError, match="s3://bucket/none"):
        fetch("s3://bucket/none")


def test_two_fetches_at_once_download_once(remote: RemoteStore) -> None:
    """Two jobs that start together neither download twice nor see half a folder."""
    for index in range(20):
        remote.put(f"m/{index}", b"x" * 1000)
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(fetch, ["s3://bucket/m"] * 4))
    assert len(set(folders)) == 1
    assert len(list(folders[0].iterdir())) == 20
    assert remote.num_downloads == 20


KILLED_FETCH = """
import sys, time
from pathlib import Path
from loam_runtime.storage import cache
from loam_runtime.storage.file import FileStore

class HangingStore(FileStore):
    def list(self, prefix=""):
        return [self.stat(info.key) for info in super().list(prefix)]
    def download_file(self, key, path):
        path.write_bytes(b"half")
        print("half", flush=True)
        time.sleep(600)

cache.open_store = lambda uri, revision="": HangingStore(Path(sys.argv[1]))
cache.fetch("s3://bucket/m")
"""


def test_a_killed_fetch_leaves_no_entry(remote: RemoteStore, tmp_path: Path) -> None:
    """After kill -9 in the middle of a download the same command starts over, unhindered."""
    remote.put("m/model", b"whole")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED_FETCH, str(tmp_path / "remote")],
        stdout=subprocess.PIPE,
        env=os.environ.copy(),
    )
    try:
        assert process.stdout.readline() == b"half\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    folder = fetch("s3://bucket/m")
    assert (folder / "model").read_bytes() == b"whole"
    left = {path.suffix for path in (cache_dir() / "downloads").iterdir()}
    assert left == {"", ".lock"}


def test_a_failed_fetch_leaves_no_entry(
    remote: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.put("m/model", b"whole")
    with monkeypatch.context() as patch:
        patch.setattr(remote, "download_file", lambda key, path: path.write_bytes(b"h") and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fetch("s3://bucket/m")
    assert (fetch("s3://bucket/m") / "model").read_bytes() == b"whole"


def age(path: Path) -> None:
    """Make a file old enough to be remembered."""
    then = time.time() - 60
    os.utime(path, (then, then))


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    """Users can check it with sha256sum; a renamed file is the same data."""
    path = tmp_path / "seeds.csv"
    path.write_bytes(b"text,label\n")
    assert digest_path(path) == hashlib.sha256(b"text,label\n").hexdigest()
    assert digest_path(path.rename(tmp_path / "other.csv")) == hash_file(tmp_path / "other.csv")
    with pytest.raises(NotFoundError):
        digest_path(path)


def test_the_digest_of_a_folder_tells_names_and_contents(tmp_path: Path) -> None:
    """Two folders with one digest are interchangeable: it keys runs and converted models."""
    seen = set()
    for tree in ({"a": b"1"}, {"b": b"1"}, {"a": b"2"}, {"a": b"1", "b": b""}, {"d/a": b"1"}):
        folder = tmp_path / str(len(seen))
        for name, content in tree.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        seen.add(digest_path(folder))
    assert len(seen) == 5
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "a").write_bytes(b"1")
    assert digest_path(copy) in seen, "the same content elsewhere has the same digest"


def test_unchanged_files_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest of a large model must not cost a minute at every start."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_bytes(b"1")
    age(folder / "weights")
    digest = digest_path(folder)
    hashed = []
    monkeypatch.setattr(digests, "hash_file", lambda path: hashed.append(path) or hash_file(path))
    assert digest_path(folder) == digest
    assert hashed == []
    (folder / "weights").write_bytes(b"2")
    age(folder / "weights")
    os.utime(folder / "weights", (1, 1))
    assert digest_path(folder) != digest
    assert len(hashed) == 1


def test_a_file_that_was_just_written_is_read_again(tmp_path: Path) -> None:
    """A second write within one tick of the clock shows neither in size nor in time."""
    path = tmp_path / "seeds.csv"
    path.write_bytes(b"1")
    stamp = path.stat().st_mtime_ns
    first = digest_path(path)
    path.write_bytes(b"2")
    os.utime(path, ns=(stamp, stamp))
    assert digest_path(path) != first


def test_a_broken_memo_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "seeds.csv"
    path.write_bytes(b"1")
    age(path)
    digest = digest_path(path)
    (memo,) = (cache_dir() / "digests").iterdir()
    memo.write_bytes(b"{half")
    assert digest_path(path) == digest
