"""file:// stores: a folder on a local or shared disk."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from collections.abc import Iterator
from pathlib import Path

from loam_runtime.storage.base import (
    RESERVED_PREFIX,
    ConflictError,
    ObjectInfo,
    check_key,
    check_prefix,
)
from loam_runtime.storage.local import (
    copy_hashing,
    hash_file,
    open_in_folder,
    translate_os_errors,
    walk_files,
    write_atomically,
)

SCHEME = "file://"


class FileStore:
    """A folder; the etag of a file is the SHA-256 of its content."""

    def __init__(self, root: Path) -> None:
        self.uri = f"{SCHEME}{root}"
        self._root = root

    @classmethod
    def from_uri(cls, uri: str, revision: str = "") -> FileStore:
        return cls(Path(uri.removeprefix(SCHEME)))

    @staticmethod
    def split_uri(uri: str) -> tuple[str, str]:
        path = Path(uri.removeprefix(SCHEME))
        return f"{SCHEME}{path.parent}", path.name

    def put(
        self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None
    ) -> str:
        path = self._locate(key)
        with translate_os_errors(path):
            if not if_none_match and if_match is None:
                return _write(path, data)
            with _lock_folder(path.parent):
                self._check_conditions(path, if_none_match, if_match)
                return _write(path, data)

    def get(self, key: str) -> bytes:
        path = self._locate(key)
        with translate_os_errors(path):
            return path.read_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        path = self._locate(key)
        with translate_os_errors(path), path.open("rb") as file:
            file.seek(start)
            return file.read(length)

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        data = self.get(key)
        return data, hashlib.sha256(data).hexdigest()

    def stat(self, key: str) -> ObjectInfo:
        path = self._locate(key)
        with translate_os_errors(path):
            return ObjectInfo(key, path.stat().st_size, hash_file(path))

    def exists(self, key: str) -> bool:
        return self._locate(key).is_file()

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        folder = self._root / check_prefix(prefix)
        with translate_os_errors(folder):
            return sorted(
                (
                    ObjectInfo(path.relative_to(self._root).as_posix(), path.stat().st_size, "")
                    for path in walk_files(folder)
                ),
                key=lambda info: info.key,
            )

    def delete(self, key: str) -> None:
        path = self._locate(key)
        with translate_os_errors(path), contextlib.suppress(NotADirectoryError):
            path.unlink(missing_ok=True)
        if path.parent != self._root:
            with contextlib.suppress(OSError):  # as in an object store, no folder without objects
                path.parent.rmdir()

    def upload_file(self, path: Path, key: str) -> str:
        target = self._locate(key)
        with translate_os_errors(path):
            source = path.open("rb")
        with source, translate_os_errors(target), write_atomically(target, durable=True) as file:
            return copy_hashing(source, file)

    def download_file(self, key: str, path: Path) -> str:
        source = self._locate(key)
        with translate_os_errors(source):
            reader = source.open("rb")
        with reader, translate_os_errors(path), write_atomically(path, durable=False) as file:
            return copy_hashing(reader, file)

    def _locate(self, key: str) -> Path:
        return self._root / check_key(key)

    def _check_conditions(self, path: Path, if_none_match: bool, if_match: str | None) -> None:
        current = hash_file(path) if path.is_file() else None
        if if_none_match and current is not None:
            raise ConflictError(f"{path} exists already.")
        if if_match is not None and current != if_match:
            raise ConflictError(f"{path} was changed by another writer.")


def _write(path: Path, data: bytes) -> str:
    with write_atomically(path, durable=True) as file:
        file.write(data)
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Order the conditional writers of a folder; the kernel frees it when a process dies.

    Conditions hold among conditional writers: a plain `put` does not wait for this lock.
    """
    with open_in_folder(folder / f"{RESERVED_PREFIX}lock", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
