"""s3:// stores when the network or the server misbehaves: heal, or say so in bounded time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tools.fault_proxy import Fault, FaultProxy, run_fault_proxy
from tests.tools.processes import find_free_port
from tests.tools.s3_server import S3Server

from loam_runtime.errors import StorageError
from loam_runtime.storage.base import ConflictError
from loam_runtime.storage.s3 import SMALL_BYTES, RetryPolicy, S3Store
from loam_runtime.storage.transfer import download_folder, upload_folder

NUM_FAULTS = 3
PERSISTENT = RetryPolicy(max_attempts=6, connect_timeout_seconds=5, read_timeout_seconds=20)
BRIEF = RetryPolicy(max_attempts=2, connect_timeout_seconds=2, read_timeout_seconds=5)
LARGE_BYTES = 5 * SMALL_BYTES


@pytest.fixture
def proxy(
    s3_bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    """A proxy before the S3 server, which the AWS environment points to."""
    with run_fault_proxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


@pytest.fixture
def store(s3_bucket: str, proxy: FaultProxy) -> S3Store:
    return S3Store(s3_bucket, retries=PERSISTENT)


def write_files(folder: Path) -> dict[str, bytes]:
    """Some small files and one of several parts."""
    contents = {f"small-{index}": os.urandom(100_000) for index in range(6)}
    contents["large"] = os.urandom(LARGE_BYTES)
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return contents


@pytest.mark.parametrize(
    "fault",
    [
        Fault("busy", NUM_FAULTS, "PUT"),
        Fault("drop_request", NUM_FAULTS, "PUT", after_bytes=1 << 15),
        Fault("drop_answer", NUM_FAULTS, "PUT"),
        Fault("busy", NUM_FAULTS, "POST"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.method}",
)
def test_uploads_heal(
    store: S3Store, proxy: FaultProxy, s3_server: S3Server, tmp_path: Path, fault: Fault
) -> None:
    """A 503 or a connection that breaks mid-upload costs a moment, never a byte."""
    contents = write_files(tmp_path / "in")
    proxy.fault = fault
    upload_folder(tmp_path / "in", store, "p")
    assert fault.num_hits == NUM_FAULTS, "the fault never happened"
    bucket, client = store.uri.removeprefix("s3://"), s3_server.create_client()
    for name, content in contents.items():
        stored = client.get_object(Bucket=bucket, Key=f"p/{name}")["Body"].read()
        assert stored == content


@pytest.mark.parametrize(
    "fault",
    [
        Fault("busy", NUM_FAULTS, "GET"),
        Fault("drop_answer", NUM_FAULTS, "GET"),
        Fault("cut_answer", NUM_FAULTS, "GET", after_bytes=50_000),
        Fault("flip_answer", NUM_FAULTS, "GET /{bucket}/p/small"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.method}",
)
def test_downloads_heal(store: S3Store, proxy: FaultProxy, tmp_path: Path, fault: Fault) -> None:
    """An answer that breaks off or arrives damaged is asked for again."""
    contents = write_files(tmp_path / "in")
    upload_folder(tmp_path / "in", store, "p")
    fault.method = fault.method.format(bucket=store.uri.removeprefix("s3://"))
    proxy.fault = fault
    download_folder(store, "p", tmp_path / "out")
    assert fault.num_hits == NUM_FAULTS, "the fault never happened"
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == contents


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("cut_at", [9, 30, 60, 100, 150, 200, 260, 320])
def test_an_answer_cut_in_its_head_is_asked_for_again(
    store: S3Store, proxy: FaultProxy, method: str, cut_at: int
) -> None:
    """Half a head is taken for a whole one: a date or a length of which a part is missing must
    neither end the job with a traceback nor be believed."""
    store.put("p/small", b"content")
    (expected,) = store.list("p")
    proxy.fault = fault = Fault("cut_answer", 1, method, after_bytes=cut_at)
    if method == "HEAD":
        assert store.stat("p/small") == expected
    else:
        assert store.get("p/small") == b"content"
        proxy.fault = fault = Fault("cut_answer", 1, method, after_bytes=cut_at)
        assert store.list("p") == [expected]
    assert fault.num_hits == 1, "the fault never happened"


def test_a_lost_answer_is_not_a_lost_race(store: S3Store, proxy: FaultProxy) -> None:
    """The put arrived, its answer did not: the retry must not take its own object for another's.

    Otherwise a run would be locked out by the lock that it has just taken itself.
    """
    proxy.fault = Fault("drop_answer", 1, "PUT")
    etag = store.put("lock", b"mine", if_none_match=True)
    assert proxy.fault.num_hits == 1
    assert store.get_with_etag("lock") == (b"mine", etag)
    proxy.fault = Fault("busy", 1, "PUT")
    with pytest.raises(ConflictError):
        store.put("lock", b"other", if_none_match=True)


def test_a_lost_answer_to_the_last_request_of_an_upload(
    store: S3Store, proxy: FaultProxy, tmp_path: Path
) -> None:
    """The upload is complete, its answer lost: finishing it twice must not be an error."""
    (tmp_path / "large").write_bytes(os.urandom(LARGE_BYTES))
    bucket = store.uri.removeprefix("s3://")
    proxy.fault = Fault("drop_answer", 1, f"POST /{bucket}/k?uploadId")
    digest = store.upload_file(tmp_path / "large", "k")
    assert proxy.fault.num_hits == 1
    assert store.download_file("k", tmp_path / "back") == digest


@pytest.mark.parametrize("use", ["put", "get", "list", "upload", "download"])
def test_a_store_that_stays_busy_is_given_up(
    s3_bucket: str, proxy: FaultProxy, tmp_path: Path, use: str
) -> None:
    """For ever 503: an error that names endpoint and remedy, within the bound."""
    store = S3Store(s3_bucket, retries=BRIEF)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "large").write_bytes(bytes(LARGE_BYTES))
    upload_folder(tmp_path / "in", store, "p")
    proxy.fault = Fault("busy", -1, "")
    calls = {
        "put": lambda: store.put("k", b"1"),
        "get": lambda: store.get("p/large"),
        "list": store.list,
        "upload": lambda: upload_folder(tmp_path / "in", store, "q"),
        "download": lambda: store.download_file("p/large", tmp_path / "out"),
    }
    started = time.monotonic()
    with pytest.raises(StorageError, match=proxy.endpoint) as caught:
        calls[use]()
    assert time.monotonic() - started < 30
    assert "AWS_ENDPOINT_URL" in caught.value.remedy
    assert not (tmp_path / "out").exists()


def test_nobody_listens(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong endpoint is named in the error, so that its typo is seen."""
    endpoint = f"http://127.0.0.1:{find_free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(StorageError, match=endpoint):
        S3Store(s3_bucket, retries=BRIEF).get("k")


def test_answers_that_always_break_off_are_given_up(
    s3_bucket: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    """The retries of a broken body are bounded as well, and half a file does not stay."""
    store = S3Store(s3_bucket, retries=BRIEF)
    (tmp_path / "in").write_bytes(os.urandom(LARGE_BYTES))
    store.upload_file(tmp_path / "in", "k")
    proxy.fault = Fault("cut_answer", -1, "GET", after_bytes=50_000)
    with pytest.raises(StorageError, match="broke off"):
        store.download_file("k", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
