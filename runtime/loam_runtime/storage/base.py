"""What every store can do, and the rule for keys.

A store is rooted at a URI; a key is a relative path under it with "/" between its parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loam_api.exits import ExitCode
from loam_runtime.errors import InputError, StorageError

MAX_KEY_BYTES = 1024  # S3's limit
RESERVED_PREFIX = ".loam-"  # names of lock files and unfinished files on a file:// store


class NotFoundError(StorageError):
    """No such object, or no object at all under a prefix."""

    exit_code = ExitCode.BAD_INPUT


class ConflictError(StorageError):
    """A conditional put lost: the object exists, or is no longer the one that was read."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a store.

    Attributes:
        key: relative to the store.
        size: in bytes.
        etag: changes with the content, comparable within one store only; "" where finding it
            out would mean reading the object.
    """

    key: str
    size: int
    etag: str


class ObjectStore(Protocol):
    """Objects under one URI.

    Every method raises `CredentialsError` (access refused), `InputError` (a key that leaves
    the store, a full disk) or `StorageError` (still failing after retries); reading a missing
    object raises `NotFoundError`. Instances may be shared by threads.
    """

    uri: str

    def put(
        self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None
    ) -> str:
        """Write an object whole, so that no reader ever sees a part of it.

        Args:
            if_none_match: only if there is no such object yet.
            if_match: only if the object still has this etag.

        Returns:
            The new etag.

        Raises:
            ConflictError: the condition does not hold; nothing was written.
        """

    def get(self, key: str) -> bytes:
        """The content of an object."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """A part of an object, and nothing else of it is transferred.

        Args:
            start: of its first byte, one that the object has.
            length: in bytes, at least 1; fewer come where the object ends before.
        """

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """The content of an object and the etag that `if_match` takes."""

    def stat(self, key: str) -> ObjectInfo:
        """Size and etag of an object, without its content."""

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """Every object under the folder `prefix`, sorted by key; empty if there is none.

        A "/" at the end of `prefix` changes nothing: "a" lists "a/x", never "ab/x".

        Keys are as the store holds them: check them before they become local paths.
        """

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if there is none."""

    def upload_file(self, path: Path, key: str) -> str:
        """Write a local file as an object; returns its SHA-256 in hex."""

    def download_file(self, key: str, path: Path) -> str:
        """Write an object as a local file, whole or not at all; returns its SHA-256 in hex.

        Raises:
            StorageError: the content is not what was uploaded.
        """


def check_key(key: str) -> str:
    """The key itself, if it is a plain relative path.

    Raises:
        InputError: it is empty, absolute, too long, not Unicode, has an empty part, ".", "..",
            a backslash or a NUL, or a name that Loam keeps for itself.
    """
    reason = _find_fault(key)
    if reason:
        raise InputError(
            f"The object key {key[:200]!r} {reason}.",
            remedy='Use a relative path with "/" between its parts and no ".." in it.',
        )
    return key


def _find_fault(key: str) -> str:
    parts = key.split("/")
    if not key:
        return "is empty"
    if key.startswith("/"):
        return "is absolute"
    if "\\" in key or "\0" in key:
        return "has a backslash or a NUL"
    if any(part in ("", ".", "..") for part in parts):
        return 'has an empty part, "." or ".."'
    if any(part.startswith(RESERVED_PREFIX) for part in parts):
        return f"uses a name that begins with {RESERVED_PREFIX!r}"
    try:
        num_bytes = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return f"is longer than {MAX_KEY_BYTES} bytes" if num_bytes > MAX_KEY_BYTES else ""


def join_key(prefix: str, key: str) -> str:
    """`prefix/key`, or the one of the two that is not empty."""
    return "/".join(part for part in (prefix.strip("/"), key) if part)


def check_prefix(prefix: str) -> str:
    """The folder `prefix` without a "/" at its end; "" is the whole store.

    Raises:
        InputError: it is not a plain relative path.
    """
    folder = prefix.rstrip("/")
    return check_key(folder) if folder or prefix else ""
