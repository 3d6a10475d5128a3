"""hf:// stores, on huggingface_hub: one revision of a repository, read-only.

`hf://owner/name/path` is in a model, `hf://datasets/owner/name/path` in a data set. Endpoint,
token and offline mode come from the usual HF_* environment.
"""

from __future__ import annotations

import functools
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeVar

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import HTTPError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from loam_runtime.errors import InputError, StorageError
from loam_runtime.storage.base import (
    NotFoundError,
    ObjectInfo,
    check_key,
    check_prefix,
    join_key,
)
from loam_runtime.storage.hf_errors import is_transient, translate_hf_error
from loam_runtime.storage.local import hash_file, translate_os_errors

SCHEME = "hf://"
MAX_ATTEMPTS = 6
RANGE_TIMEOUT_SECONDS = 60  # between two pieces of an answer
_REPOSITORY = re.compile(r"(datasets/)?[\w.-]+/[\w.-]+")
# Weights in formats that run code when loaded, or that Loam does not load: never downloaded.
_UNUSED_WEIGHTS = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".ot", ".onnx"}

Result = TypeVar("Result")


class HuggingFaceStore:
    """A folder of a repository of the Hugging Face Hub, at the commit of the first access."""

    def __init__(
        self,
        repository: str,
        folder: str = "",
        *,
        revision: str = "",
        endpoint: str | None = None,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> None:
        self.uri = SCHEME + join_key(repository, folder)
        self._folder = folder
        self._revision = revision or None
        self._api = HfApi(endpoint=endpoint)
        self._max_attempts = max_attempts
        self._repository = {
            "repo_id": repository.removeprefix("datasets/"),
            "repo_type": "dataset" if repository.startswith("datasets/") else "model",
        }

    @classmethod
    def from_uri(cls, uri: str, revision: str = "") -> HuggingFaceStore:
        root, path = cls.split_uri(uri)
        repository = root.removeprefix(SCHEME)
        if not _REPOSITORY.fullmatch(repository):
            raise InputError(f"{uri!r} names no repository.", remedy="Write hf://owner/name.")
        return cls(repository, check_key(path) if path else "", revision=revision)

    @staticmethod
    def split_uri(uri: str) -> tuple[str, str]:
        parts = uri.removeprefix(SCHEME).strip("/").split("/")
        num_root = 3 if parts[0] == "datasets" else 2
        return SCHEME + "/".join(parts[:num_root]), "/".join(parts[num_root:])

    def put(
        self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None
    ) -> str:
        self._refuse_write()

    def upload_file(self, path: Path, key: str) -> str:
        self._refuse_write()

    def delete(self, key: str) -> None:
        self._refuse_write()

    def get(self, key: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "object")
            self.download_file(key, path)
            return path.read_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self.stat(key)  # says what is missing in the store's own words
        return self._retry(
            self._read_range, filename=join_key(self._folder, key), start=start, length=length
        )

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        return self.get(key), self.stat(key).etag

    def stat(self, key: str) -> ObjectInfo:
        file = self._files.get(join_key(self._folder, check_key(key)))
        if file is None:
            raise NotFoundError(f"There is no file {self.uri}/{key}.", remedy="Check the URI.")
        return ObjectInfo(key, file.size, _get_etag(file))

    def exists(self, key: str) -> bool:
        return join_key(self._folder, check_key(key)) in self._files

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        folder = join_key(self._folder, check_prefix(prefix))
        root = f"{self._folder}/" if self._folder else ""
        return [
            ObjectInfo(path.removeprefix(root), file.size, _get_etag(file))
            for path, file in sorted(self._files.items())
            if path.startswith(f"{folder}/" if folder else "")
        ]

    def download_file(self, key: str, path: Path) -> str:
        expected = self.stat(key).etag
        with translate_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # huggingface_hub writes beside its own bookkeeping: only the file moves out.
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".loam-") as folder:
                downloaded = self._retry(
                    self._api.hf_hub_download,
                    filename=join_key(self._folder, key),
                    revision=self._commit,
                    local_dir=folder,
                )
                digest = hash_file(Path(downloaded))
                if len(expected) == len(digest) and expected != digest:
                    raise StorageError(f"{self.uri}/{key} arrived with another SHA-256.")
                os.replace(downloaded, path)
        return digest

    @functools.cached_property
    def _commit(self) -> str:
        """The commit that the revision names now, kept so that every file is of one version."""
        return self._retry(self._api.repo_info, revision=self._revision).sha

    @functools.cached_property
    def _files(self) -> dict[str, RepoFile]:
        tree = self._retry(self._list_tree, revision=self._commit)
        return {
            item.path: item
            for item in tree
            if isinstance(item, RepoFile)
            and PurePosixPath(item.path).suffix.lower() not in _UNUSED_WEIGHTS
        }

    def _list_tree(self, **arguments: Any) -> list[Any]:
        return list(self._api.list_repo_tree(recursive=True, **arguments))

    def _read_range(self, *, filename: str, start: int, length: int, **repository: Any) -> bytes:
        url = hf_hub_url(
            filename=filename,
            revision=self._commit,
            endpoint=self._api.endpoint,
            **repository,
        )
        span = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        options = {"headers": build_hf_headers() | span, "timeout": RANGE_TIMEOUT_SECONDS}
        with get_session().stream("GET", url, **options) as response:
            if response.is_error:
                response.read()
            hf_raise_for_status(response)
            # Who does not know ranges answers with the whole file: it is left where the part ends.
            skipped = 0 if response.status_code == HTTPStatus.PARTIAL_CONTENT else start
            return _read_until(response.iter_bytes(), skipped + length)[skipped:]

    def _retry(self, call: Callable[..., Result], **arguments: Any) -> Result:
        retrying = Retrying(
            retry=retry_if_exception(is_transient),
            stop=stop_after_attempt(self._max_attempts),
            wait=wait_random_exponential(multiplier=0.5, max=20),
            reraise=True,
        )
        try:
            return retrying(call, **self._repository, **arguments)
        except (OSError, ValueError, HTTPError) as exc:
            raise translate_hf_error(exc, self.uri) from exc

    def _refuse_write(self) -> NoReturn:
        raise InputError(
            f"{self.uri} is read-only.", remedy="Write to an s3:// or file:// URI instead."
        )


def _read_until(pieces: Iterable[bytes], end: int) -> bytes:
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) >= end:
            break
    return bytes(data[:end])


def _get_etag(file: RepoFile) -> str:
    """SHA-256 of a large file, the hash git gives a small one."""
    return file.lfs.sha256 if file.lfs else file.blob_id
