"""Local files: the cache folder, whole-or-nothing writes, hashes, walks, errors in Loam's terms."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from loam_runtime.errors import CredentialsError, InputError, LoamError, StorageError
from loam_runtime.storage.base import RESERVED_PREFIX, NotFoundError

CHUNK_BYTES = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FREE = "Free some space, or point output.uri or LOAM_CACHE elsewhere, and run again."


def cache_dir() -> Path:
    """The folder for everything that can be made again: $LOAM_CACHE, else ~/.cache/loam."""
    configured = os.environ.get("LOAM_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "loam"


@contextlib.contextmanager
def translate_os_errors(path: Path | str) -> Iterator[None]:
    """Turn an `OSError` about `path` into the error its reader can act on."""
    try:
        yield
    except OSError as exc:
        raise _to_loam_error(exc, path) from exc


@contextlib.contextmanager
def translate_full_disk(folder: Path) -> Iterator[None]:
    """Turn an `OSError` of a full disk into the error its reader can act on, and no other.

    Args:
        folder: what is being written, where the error itself names no file.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno not in _FULL:
            raise
        raise InputError(f"No space left for {exc.filename or folder}.", remedy=_FREE) from exc


def _to_loam_error(exc: OSError, path: Path | str) -> LoamError:
    if exc.errno in _FULL:
        return InputError(
            f"No space left for {path}; no partial file was left behind.",
            remedy=_FREE,
        )
    if isinstance(exc, FileNotFoundError):
        return NotFoundError(f"There is no file {path}.", remedy="Check the URI.")
    if isinstance(exc, PermissionError):
        return CredentialsError(
            f"Access to {path} is refused by the file system.",
            remedy="Check its owner and mode.",
        )
    if isinstance(exc, (IsADirectoryError, NotADirectoryError, FileExistsError)):
        return InputError(f"{path} would be a file and a folder at once.", remedy="Rename one.")
    return StorageError(f"{path}: {exc.strerror or exc}.")


@contextlib.contextmanager
def write_atomically(path: Path, *, durable: bool) -> Iterator[BinaryIO]:
    """A file to write that takes `path`'s place when the block ends, and vanishes if it fails.

    Args:
        durable: survive a power loss too, not only a killed process (costs an fsync).
    """
    unfinished = path.parent / f"{RESERVED_PREFIX}{uuid.uuid4().hex}"
    try:
        with open_in_folder(unfinished, "xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def open_in_folder(path: Path, mode: Literal["ab", "xb"]) -> BinaryIO:
    """Open a file, its folder made before; another process may remove a folder it emptied."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return path.open(mode)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_hashing(source: BinaryIO, target: BinaryIO) -> str:
    """Copy to the end; returns the SHA-256 of what was copied, in hex."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def walk_files(folder: Path) -> list[Path]:
    """Every file under a folder, sorted, links to files among them.

    Raises:
        InputError: something is neither a file nor a folder (a dangling link, a link to a
            folder, a socket): leaving it out silently would lose data.
    """
    files = []
    for parent, folders, names in os.walk(folder):
        names += [name for name in folders if os.path.islink(os.path.join(parent, name))]
        files += [Path(parent, name) for name in names if not name.startswith(RESERVED_PREFIX)]
    for path in files:
        if not path.is_file():
            raise InputError(
                f"{path} is neither a file nor a folder of its own.",
                remedy="Replace the link by what it points to, or remove it.",
            )
    return sorted(files)
