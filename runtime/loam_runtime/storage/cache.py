"""What can be had again, kept by content on this machine's disk: downloads, conversions."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from loam_runtime.storage.base import NotFoundError, ObjectInfo, ObjectStore
from loam_runtime.storage.digests import digest_path
from loam_runtime.storage.local import cache_dir, sync_folder, translate_os_errors, walk_files
from loam_runtime.storage.registry import is_local, open_store, resolve_uri, split_uri
from loam_runtime.storage.transfer import download_folder

__all__ = ["cache_dir", "digest_path", "fetch", "keep"]


def fetch(uri: str, *, revision: str = "", base_dir: Path | None = None) -> Path:
    """A local file or folder with the content of `uri`; do not write to it.

    A file:// path is returned as it is. Anything else is downloaded into the cache unless the
    very same content is there already. Two processes that fetch the same thing download it
    once; a killed one leaves nothing that could be taken for a whole entry.

    Args:
        revision: branch, tag or commit, for hf:// only.
        base_dir: where a relative file:// path begins; the working directory by default.

    Raises:
        InputError: there is nothing at `uri`, or the disk is full.
        CredentialsError: access is refused.
        StorageError: the store still fails after retries.
    """
    if is_local(uri):
        path = Path(resolve_uri(uri, base_dir).removeprefix("file://"))
        if not path.exists():
            raise NotFoundError(f"There is no file or folder {path}.", remedy="Check the path.")
        return path
    root, path_in_store = split_uri(uri)
    store = open_store(root, revision=revision)
    if path_in_store and store.exists(path_in_store):
        return _fetch_file(store, path_in_store)
    return _fetch_folder(store, path_in_store, uri)


def _fetch_file(store: ObjectStore, key: str) -> Path:
    entry = _locate_entry(f"{store.uri}/{key}", [store.stat(key)])
    name = key.rpartition("/")[2]
    return keep(entry, lambda folder: store.download_file(key, folder / name)) / name


def _fetch_folder(store: ObjectStore, prefix: str, uri: str) -> Path:
    objects = store.list(prefix)
    if not objects:
        raise NotFoundError(f"There is nothing at {uri}.", remedy="Check the URI.")
    entry = _locate_entry(f"{store.uri}/{prefix}/", objects)
    return keep(entry, lambda folder: download_folder(store, prefix, folder))


def _locate_entry(name: str, objects: Sequence[ObjectInfo]) -> Path:
    """Where content is kept: a changed object has another etag, hence another place."""
    lines = [name, *(f"{info.key}\0{info.size}\0{info.etag}" for info in objects)]
    digest = hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()
    return cache_dir() / "downloads" / digest[:32]


def keep(entry: Path, fill: Callable[[Path], object]) -> Path:
    """A folder of the cache, made once: whole or not at all, whoever else wants it waits.

    Args:
        fill: writes the content into the folder it is given.
    """
    if not entry.exists():
        with _locked(entry):
            if not entry.exists():
                with _new_entry(entry) as folder:
                    fill(folder)
    return entry


@contextlib.contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """Exclusive use of an entry; the kernel ends it when the process dies."""
    with translate_os_errors(entry):
        entry.parent.mkdir(parents=True, exist_ok=True)
        with entry.with_suffix(".lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def _new_entry(entry: Path) -> Iterator[Path]:
    """A folder to fill, which becomes the entry when the block ends well."""
    unfinished = entry.with_suffix(".partial")
    shutil.rmtree(unfinished, ignore_errors=True)  # what a killed process left
    unfinished.mkdir()
    try:
        yield unfinished
        _flush(unfinished)
        os.replace(unfinished, entry)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync_folder(entry.parent)


def _flush(folder: Path) -> None:
    """Bring every file to the disk: after a power loss the rename must not outlive them."""
    for path in walk_files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
