"""s3:// stores, on boto3: AWS, or whatever AWS_ENDPOINT_URL names.

Endpoint, region and credentials come from the usual AWS environment. Every object keeps its
SHA-256 in its metadata, and what comes back is checked against it. On the way up the server
checks as well, where it knows how: the SHA-256 of a small object, a CRC of each part of a
large one (botocore's default, and no slower than no check at all).
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import os
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    HTTPClientError,
)
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from loam_runtime.errors import InputError, StorageError
from loam_runtime.storage.base import (
    ConflictError,
    NotFoundError,
    ObjectInfo,
    check_key,
    check_prefix,
    join_key,
)
from loam_runtime.storage.local import hash_file, translate_os_errors, write_atomically
from loam_runtime.storage.s3_errors import (
    BrokenAnswerError,
    notice_broken_answers,
    translate_s3_errors,
)

SCHEME = "s3://"
SMALL_BYTES = 8 << 20  # an object up to this size is one request, and in memory as a whole
UPLOAD_PART_BYTES = 16 << 20
NUM_UPLOAD_THREADS = 8  # for one large file
DOWNLOAD_PART_BYTES = 8 << 20
NUM_PARTS_AHEAD = 4  # of one large file: what a download holds in memory
MAX_CONNECTIONS = 64  # open at once per store: folder workers times parts of a large file
DIGEST_FIELD = "loam-sha256"
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,254}")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a failing store is waited for.

    Waits double from half a second to about ten on average (botocore's standard mode), so
    ten attempts outlast an outage of around a minute.
    """

    max_attempts: int = 10
    connect_timeout_seconds: float = 10
    read_timeout_seconds: float = 60


class S3Store:
    """A prefix of a bucket."""

    def __init__(self, bucket: str, prefix: str = "", *, retries: RetryPolicy | None = None):
        self.uri = SCHEME + join_key(bucket, prefix)
        self._bucket = bucket
        self._prefix = prefix
        retries = retries or RetryPolicy()
        self._client = _create_client(self.uri, retries)
        self._endpoint = self._client.meta.endpoint_url
        self._retry_broken = Retrying(
            retry=retry_if_exception_type(BrokenAnswerError),
            stop=stop_after_attempt(retries.max_attempts),
            wait=wait_random_exponential(multiplier=0.5, max=10),
            reraise=True,
        )
        self._upload = TransferConfig(
            multipart_threshold=SMALL_BYTES,
            multipart_chunksize=UPLOAD_PART_BYTES,
            max_concurrency=NUM_UPLOAD_THREADS,
            preferred_transfer_client="classic",
        )

    @classmethod
    def from_uri(cls, uri: str) -> S3Store:
        bucket, _, prefix = uri.removeprefix(SCHEME).strip("/").partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise InputError(
                "The s3:// URI does not begin with the name of a bucket.",
                remedy="Write s3://bucket/path; credentials belong in the environment.",
            )
        return cls(bucket, check_key(prefix) if prefix else "")

    @staticmethod
    def split_uri(uri: str) -> tuple[str, str]:
        bucket, _, path = uri.removeprefix(SCHEME).strip("/").partition("/")
        return f"{SCHEME}{bucket}", path

    def put(
        self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None
    ) -> str:
        conditions = {"IfNoneMatch": "*"} if if_none_match else {}
        if if_match is not None:
            conditions["IfMatch"] = if_match
        try:
            return self._put(key, data, **conditions)
        except NotFoundError as exc:
            raise ConflictError(f"{self.uri}/{key} was deleted by another writer.") from exc
        except ConflictError as exc:
            # The first try may have been written and only its answer lost.
            if _was_retried(exc):
                current, etag = self.get_with_etag(key)
                if current == data:
                    return etag
            raise

    def get(self, key: str) -> bytes:
        return self._read(key)[0]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self._read(key, Range=f"bytes={start}-{start + length - 1}")[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        data, response = self._read(key)
        return data, response["ETag"]

    def stat(self, key: str) -> ObjectInfo:
        with self._errors(key):
            size, etag = self._retry_broken(self._stat_once, self._locate(key))
        return ObjectInfo(key, size, etag)

    def exists(self, key: str) -> bool:
        try:
            self.stat(key)
        except NotFoundError:
            return False
        return True

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        root = f"{self._prefix}/" if self._prefix else ""
        folder = join_key(self._prefix, check_prefix(prefix))
        with self._errors(prefix):
            found = self._retry_broken(self._list_once, f"{folder}/" if folder else "")
        return [
            ObjectInfo(item["Key"].removeprefix(root), item["Size"], item["ETag"])
            for item in sorted(found, key=lambda item: item["Key"])
            if not item["Key"].endswith("/")  # the empty objects by which consoles show folders
        ]

    def delete(self, key: str) -> None:
        with self._errors(key):
            self._client.delete_object(**self._locate(key))

    def upload_file(self, path: Path, key: str) -> str:
        with translate_os_errors(path):
            if path.stat().st_size > SMALL_BYTES:
                return self._upload_in_parts(path, key)
            data = path.read_bytes()
        self._put(key, data)
        return hashlib.sha256(data).hexdigest()

    def download_file(self, key: str, path: Path) -> str:
        data, response = self._read(key, max_bytes=SMALL_BYTES)
        with translate_os_errors(path), write_atomically(path, durable=False) as file:
            if data is None:
                return self._download_in_parts(key, response, file)
            file.write(data)
        return _get_digest(response) or hashlib.sha256(data).hexdigest()

    def _put(self, key: str, data: bytes, **conditions: str) -> str:
        digest = hashlib.sha256(data)
        checksum = base64.b64encode(digest.digest()).decode()
        with self._errors(key), notice_broken_answers():
            response = self._client.put_object(
                **self._locate(key),
                Body=data,
                ChecksumSHA256=checksum,
                **_describe(key, digest.hexdigest()),
                **conditions,
            )
            return response["ETag"]

    def _upload_in_parts(self, path: Path, key: str) -> str:
        digest = hash_file(path)
        location, description = self._locate(key), _describe(key, digest)
        with self._errors(key), create_transfer_manager(self._client, self._upload) as manager:
            manager.upload(
                str(path), location["Bucket"], location["Key"], extra_args=description
            ).result()
        return digest

    def _download_in_parts(self, key: str, response: Any, file: BinaryIO) -> str:
        digest = hashlib.sha256()
        for part in self._read_parts(key, response):
            digest.update(part)
            file.write(part)
        if _differs(digest.hexdigest(), response):
            raise StorageError(
                f"{self.uri}/{key} is not what was uploaded: its SHA-256 differs.",
                remedy="Run again; if it stays so, upload the object anew.",
            )
        return digest.hexdigest()

    def _read(
        self, key: str, *, max_bytes: int | None = None, **request: str
    ) -> tuple[bytes | None, Any]:
        """Content and answer; no content if the object has more than `max_bytes`."""
        with self._errors(key):
            return self._retry_broken(self._read_once, self._locate(key) | request, max_bytes)

    def _read_once(self, request: dict, max_bytes: int | None) -> tuple[bytes | None, Any]:
        with notice_broken_answers():
            response = self._client.get_object(**request)
            body, size = response["Body"], response["ContentLength"]
            _ = response["ETag"]  # a head that broke off lacks it
            if max_bytes is not None and size > max_bytes:
                body.close()
                return None, response
            data = self._read_body(body)
        if "Range" not in request and _differs(hashlib.sha256(data).hexdigest(), response):
            raise BrokenAnswerError(reason="its SHA-256 differs from the uploaded content's")
        return data, response

    def _read_body(self, body: Any) -> bytes:
        try:
            return body.read()
        except HTTPClientError as exc:
            raise BrokenAnswerError(reason=exc) from exc

    def _stat_once(self, location: dict[str, str]) -> tuple[int, str]:
        with notice_broken_answers():
            head = self._client.head_object(**location)
            return head["ContentLength"], head["ETag"]

    def _list_once(self, prefix: str) -> list[dict[str, Any]]:
        paginator = self._client.get_paginator("list_objects_v2")
        with notice_broken_answers():
            pages = list(paginator.paginate(Bucket=self._bucket, Prefix=prefix))
        if "IsTruncated" not in pages[-1]:  # an answer without a body would pass for an empty list
            raise BrokenAnswerError(reason="a page of the list has no end")
        return [item for page in pages for item in page.get("Contents", ())]

    def _read_parts(self, key: str, response: Any) -> Iterator[bytes]:
        """The content of a large object in order, some parts ahead of the one in use."""
        size = response["ContentLength"]
        waiting: deque[Future] = deque()
        with ThreadPoolExecutor(NUM_PARTS_AHEAD, thread_name_prefix="s3-parts") as pool:
            for start in range(0, size, DOWNLOAD_PART_BYTES):
                if len(waiting) == NUM_PARTS_AHEAD:
                    yield waiting.popleft().result()[0]
                span = f"bytes={start}-{min(start + DOWNLOAD_PART_BYTES, size) - 1}"
                waiting.append(pool.submit(self._read, key, Range=span, IfMatch=response["ETag"]))
            while waiting:
                yield waiting.popleft().result()[0]

    def _locate(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": join_key(self._prefix, check_key(key))}

    def _errors(self, key: str) -> AbstractContextManager[None]:
        return translate_s3_errors(join_key(self.uri, key), self._endpoint)


def _create_client(uri: str, retries: RetryPolicy) -> Any:
    config = Config(
        retries={"mode": "standard", "total_max_attempts": retries.max_attempts},
        connect_timeout=retries.connect_timeout_seconds,
        read_timeout=retries.read_timeout_seconds,
        max_pool_connections=MAX_CONNECTIONS,
        # Less work for each request, which is what many small files are limited by.
        user_agent="loam",
        parameter_validation=False,
        # Each body travels with a checksum, which is signed: hashing it once more for the
        # signature took a fifth of the time of a large upload over plain http.
        s3={"payload_signing_enabled": False},
    )
    # boto3 itself reads AWS_DEFAULT_REGION only; pods are given AWS_REGION.
    region = os.environ.get("AWS_REGION")
    with translate_s3_errors(uri, os.environ.get("AWS_ENDPOINT_URL", "AWS")):
        client = boto3.session.Session(region_name=region).client("s3", config=config)
    client.meta.events.register("before-sign.s3.PutObject", _send_body_at_once)
    return client


def _send_body_at_once(request: Any, **_: Any) -> None:
    """Do not wait for the server's leave to send a small body: that is one round trip a file."""
    del request.headers["Expect"]


def _describe(key: str, digest: str) -> dict[str, Any]:
    """Metadata of a new object; the type lets a browser open a report from the bucket."""
    content_type = mimetypes.guess_type(key)[0] or "application/octet-stream"
    return {"Metadata": {DIGEST_FIELD: digest}, "ContentType": content_type}


def _get_digest(response: Any) -> str:
    """SHA-256 that the uploader recorded; "" for an object that Loam did not upload."""
    return response["Metadata"].get(DIGEST_FIELD, "")


def _differs(digest: str, response: Any) -> bool:
    return _get_digest(response) not in ("", digest)


def _was_retried(exc: ConflictError) -> bool:
    cause = exc.__cause__
    if not isinstance(cause, ClientError):
        return False
    return cause.response["ResponseMetadata"].get("RetryAttempts", 0) > 0
