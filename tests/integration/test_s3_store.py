"""s3:// stores against a real S3 server: contents, conditions, errors."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.tools.s3_server import S3Server

from loam_runtime.errors import CredentialsError, FencedError, InputError, StorageError
from loam_runtime.storage.base import ConflictError, NotFoundError, ObjectInfo
from loam_runtime.storage.cache import fetch
from loam_runtime.storage.conditions import supports_conditions
from loam_runtime.storage.registry import open_store
from loam_runtime.storage.run_store import RunStore
from loam_runtime.storage.s3 import SMALL_BYTES, RetryPolicy, S3Store
from loam_runtime.storage.transfer import download_folder, upload_folder

NUM_WRITERS = 16
NUM_RACES = 5


@pytest.fixture
def store(s3_bucket: str) -> S3Store:
    return S3Store(s3_bucket, "some/prefix")


def test_an_object_reads_back_and_lists(store: S3Store, s3_bucket: str) -> None:
    """The same behaviour as file://, under the store's prefix only."""
    store.put("a/x", b"1")
    store.put("ab/y", b"22")
    open_store(f"s3://{s3_bucket}").put("some/prefix-of-another/z", b"3")
    assert store.get("a/x") == b"1"
    assert [(info.key, info.size) for info in store.list()] == [("a/x", 1), ("ab/y", 2)]
    assert [info.key for info in store.list("a/")] == ["a/x"]
    assert store.list("nothing") == []
    assert store.exists("a/x")
    assert not store.exists("a")
    store.delete("a/x")
    store.delete("a/x")
    assert not store.exists("a/x")


def test_listing_goes_past_one_page(store: S3Store, s3_server: S3Server, s3_bucket: str) -> None:
    """S3 lists a thousand keys at a time: the 1001st must not be forgotten."""
    client = s3_server.create_client()
    keys = [f"{index:04d}" for index in range(1005)]

    def put(key: str) -> None:
        client.put_object(Bucket=s3_bucket, Key=f"some/prefix/{key}", Body=b"")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, keys))
    assert [info.key for info in store.list()] == keys


def test_folder_markers_are_not_objects(
    store: S3Store, s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    """Consoles make an empty object "folder/" for a folder: a download must not stumble on it."""
    s3_server.create_client().put_object(Bucket=s3_bucket, Key="some/prefix/f/")
    store.put("f/x", b"1")
    assert [info.key for info in store.list()] == ["f/x"]
    download_folder(store, "f", tmp_path)
    assert (tmp_path / "x").read_bytes() == b"1"


@pytest.mark.parametrize("num_bytes", [0, 1, SMALL_BYTES, SMALL_BYTES + 1, 3 * SMALL_BYTES + 7])
def test_files_of_every_size_class(store: S3Store, tmp_path: Path, num_bytes: int) -> None:
    """One request, several parts, nothing at all: the same bytes and digest come back."""
    (tmp_path / "in").write_bytes(os.urandom(num_bytes))
    digest = store.upload_file(tmp_path / "in", "k")
    assert store.download_file("k", tmp_path / "out") == digest
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()
    assert store.stat("k") == ObjectInfo("k", num_bytes, store.list()[0].etag)


def test_a_part_reads_back(store: S3Store) -> None:
    """What a plan reads of weights: from where it asks, and to the end at most."""
    store.put("a", b"0123456789")
    assert store.get_range("a", 3, 4) == b"3456"
    assert store.get_range("a", 8, 4) == b"89"
    with pytest.raises(NotFoundError):
        store.get_range("none", 0, 1)


def test_unicode_folders_come_back(store: S3Store, tmp_path: Path) -> None:
    """Names with blanks, signs and other scripts survive the URL encoding both ways."""
    names = ["ünï cödé/日本語.txt", "a+b &c=%20d.txt", "plain", "empty", "e\u0301/x", "😀"]
    for name in names:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty" else name.encode())
    uploaded = upload_folder(tmp_path / "in", store, "p")
    downloaded = download_folder(store, "p", tmp_path / "out")
    assert {f"p/{name}": digest for name, digest in downloaded.items()} == uploaded
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()


def test_an_upload_carries_its_checksum(
    store: S3Store, s3_server: S3Server, s3_bucket: str
) -> None:
    """The server itself has checked the SHA-256 that Loam computed."""
    store.put("k", b"content")
    head = s3_server.create_client().head_object(
        Bucket=s3_bucket, Key="some/prefix/k", ChecksumMode="ENABLED"
    )
    assert head["ChecksumSHA256"] == "7XACtDnprIRfIjV9giusFERzD722AW0+yUMil7nsn3M="


@pytest.mark.parametrize("num_bytes", [100, 2 * SMALL_BYTES])
def test_content_that_changed_in_the_store_is_refused(
    store: S3Store, s3_server: S3Server, s3_bucket: str, tmp_path: Path, num_bytes: int
) -> None:
    """Bytes that rotted at rest must not become a model: the recorded SHA-256 tells."""
    client = s3_server.create_client()
    client.put_object(
        Bucket=s3_bucket,
        Key="some/prefix/k",
        Body=os.urandom(num_bytes),
        Metadata={"loam-sha256": "0" * 64},
    )
    store = S3Store(s3_bucket, "some/prefix", retries=RetryPolicy(max_attempts=2))
    with pytest.raises(StorageError, match="SHA-256 differs"):
        store.download_file("k", tmp_path / "k")
    assert not (tmp_path / "k").exists()


def test_conditions(store: S3Store) -> None:
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
    assert supports_conditions(store)


def race(store: S3Store, writers: list[bytes], **condition: object) -> list[bytes]:
    """The contents whose writers won."""

    def write(content: bytes) -> bytes | None:
        try:
            store.put("lock", content, **condition)
        except ConflictError:
            return None
        return content

    with ThreadPoolExecutor(len(writers)) as pool:
        return [content for content in pool.map(write, writers) if content]


def test_of_many_writers_one_wins(store: S3Store) -> None:
    """Two winners of one race would be two writers of one run."""
    writers = [str(index).encode() for index in range(NUM_WRITERS)]
    for _ in range(NUM_RACES):
        winners = race(store, writers, if_none_match=True)
        data, etag = store.get_with_etag("lock")
        assert winners == [data]
        winners = race(store, [b"2" + content for content in writers], if_match=etag)
        assert winners == [store.get("lock")]
        store.delete("lock")


def test_of_many_runs_at_once_one_holds_the_lock(s3_bucket: str) -> None:
    """The whole lock, not only the put: attempts that start together end with one holder."""
    runs = [RunStore(S3Store(s3_bucket), "abc") for _ in range(6)]

    def acquire(attempt: int) -> int:
        try:
            runs[attempt].acquire("default/job", attempt)
        except FencedError:
            return 0
        return runs[attempt].token

    with ThreadPoolExecutor(6) as pool:
        tokens = [token for token in pool.map(acquire, range(6)) if token]
    assert len(set(tokens)) == len(tokens) >= 1
    (holder,) = [run for run in runs if run.token == max(tokens)]
    holder.publish({"a": 1})
    for run in runs:
        if run is not holder:
            with pytest.raises(FencedError):
                run.check_fence()
    assert json.loads(S3Store(s3_bucket).get("latest.json"))["runKey"] == "abc"


def test_fetch_caches_by_content(
    store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_bucket: str
) -> None:
    """Unchanged content is not downloaded again, changed content is; a bucket alone works too."""
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))
    store.put("seeds.csv", b"one")
    first = fetch(f"s3://{s3_bucket}/some/prefix/seeds.csv")
    assert (first.name, first.read_bytes()) == ("seeds.csv", b"one")
    stamp = first.stat().st_ino
    assert fetch(f"s3://{s3_bucket}/some/prefix/seeds.csv").stat().st_ino == stamp
    store.put("seeds.csv", b"two")
    assert fetch(f"s3://{s3_bucket}/some/prefix/seeds.csv").read_bytes() == b"two"
    assert (fetch(f"s3://{s3_bucket}") / "some/prefix/seeds.csv").read_bytes() == b"two"


def test_a_missing_object_is_not_found(store: S3Store, tmp_path: Path) -> None:
    """Absence has an error of its own, and it names the object."""
    for read in (store.get, store.stat, lambda key: store.download_file(key, tmp_path / "x")):
        with pytest.raises(NotFoundError, match=r"s3://.*/some/prefix/none"):
            read("none")
    with pytest.raises(NotFoundError):
        download_folder(store, "none", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_bucket_is_said(store: S3Store) -> None:
    """A typo in the bucket is told from a missing file, with what to do."""
    missing = S3Store("no-such-bucket")
    for use in (missing.list, lambda: missing.get("k"), lambda: missing.put("k", b"1")):
        with pytest.raises(CredentialsError, match="bucket of s3://no-such-bucket") as caught:
            use()
        assert "AWS_ENDPOINT_URL" in caught.value.remedy


def test_wrong_keys_are_a_credentials_error(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused access names the URI and the environment to set, never the secret."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wr0ng-secret")
    with pytest.raises(CredentialsError, match=f"refuses access to s3://{s3_bucket}/k") as caught:
        S3Store(s3_bucket).get("k")
    assert "AWS_ACCESS_KEY_ID" in caught.value.remedy
    assert "wr0ng-secret" not in str(caught.value)


def test_no_keys_are_a_credentials_error(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing configured at all: at once, and with the names of what is missing."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(CredentialsError, match="No usable credentials for s3://") as caught:
        S3Store(s3_bucket).get("k")
    assert "AWS_ACCESS_KEY_ID" in caught.value.remedy


def test_a_download_onto_a_full_disk_leaves_nothing(
    store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that does not fit is said, and no half of it stays to fill the disk."""
    store.put("k", b"x" * 100)
    with monkeypatch.context() as patch:
        patch.setattr("loam_runtime.storage.local.os.replace", raise_disk_full)
        with pytest.raises(InputError, match="No space left"):
            store.download_file("k", tmp_path / "k")
    assert list(tmp_path.iterdir()) == []


def raise_disk_full(source: object, destination: object) -> None:
    raise OSError(28, "No space left on device")
