"""Whole folders to and from a store: many files at once, each checked by its SHA-256."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from loam_runtime.storage.base import NotFoundError, ObjectStore, check_key, check_prefix, join_key
from loam_runtime.storage.local import walk_files

NUM_WORKERS = 8


def upload_folder(
    local: Path, store: ObjectStore, prefix: str, *, workers: int = NUM_WORKERS
) -> dict[str, str]:
    """Write every file under a local folder to the store, empty folders left out.

    Returns:
        SHA-256 in hex by key (`prefix/` and the path inside the folder), sorted.

    Raises:
        InputError: a file whose name no key can hold, a dangling link, a link to a folder.
    """
    files = {
        check_key(join_key(prefix, path.relative_to(local).as_posix())): path
        for path in walk_files(local)
    }
    return _run_parallel(lambda key: store.upload_file(files[key], key), files, workers)


def download_folder(
    store: ObjectStore, prefix: str, local: Path, *, workers: int = NUM_WORKERS
) -> dict[str, str]:
    """Write every object under `prefix` as a file under the folder `local`.

    Returns:
        SHA-256 in hex by path inside the folder, sorted.

    Raises:
        NotFoundError: nothing is there: a store keeps no empty folders.
        InputError: a key that would leave the folder; then nothing is written at all.
    """
    folder = f"{check_prefix(prefix)}/".lstrip("/")
    paths = [info.key.removeprefix(folder) for info in store.list(prefix)]
    if not paths:
        raise NotFoundError(f"There is nothing under {join_key(store.uri, prefix)}.")
    for path in paths:
        check_key(path)
    return _run_parallel(
        lambda path: store.download_file(join_key(prefix, path), local / path), paths, workers
    )


def _run_parallel(move: Callable[[str], str], names: Iterable[str], workers: int) -> dict[str, str]:
    """`move(name)` for each name; the first failure stops those that have not begun."""
    with ThreadPoolExecutor(workers, thread_name_prefix="transfer") as pool:
        futures = {name: pool.submit(move, name) for name in sorted(names)}
        try:
            wait(futures.values(), return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        failed = [f for f in futures.values() if f.done() and not f.cancelled() and f.exception()]
        if failed:
            raise failed[0].exception()
        return {name: future.result() for name, future in futures.items()}
