"""The SHA-256 of files and folders, remembered while they do not change."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from loam_runtime.storage.local import (
    cache_dir,
    hash_file,
    translate_os_errors,
    walk_files,
    write_atomically,
)

# A file changed this recently may change again within one tick of the file system's clock,
# without its size and time showing it: it is hashed anew next time.
SETTLED_AFTER_SECONDS = 2


def digest_path(path: Path) -> str:
    """What identifies the content of a file or a folder.

    Returns:
        For a file, the SHA-256 of its content in hex, whatever its name. For a folder, the
        SHA-256 over the relative path and SHA-256 of every file in it, in order of the paths.

    Raises:
        NotFoundError: there is no such file or folder.
    """
    path = path.resolve()
    with translate_os_errors(path):
        if not path.is_dir():
            return _hash_files(path, [path])[0]
        files = walk_files(path)
        names = [file.relative_to(path).as_posix() for file in files]
        lines = zip(names, _hash_files(path, files), strict=True)
    text = "".join(f"{name}\0{digest}\n" for name, digest in lines)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _hash_files(root: Path, files: list[Path]) -> list[str]:
    """SHA-256 of each file; those whose size and time are as remembered are not read."""
    memo_path = _locate_memo(root)
    memo = _read_memo(memo_path)
    stamps = {str(file): _stamp(file) for file in files}
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda file: _recall(memo, stamps, file), files))
    settled = time.time_ns() - SETTLED_AFTER_SECONDS * 10**9
    fresh = {
        str(file): [*stamps[str(file)], digest]
        for file, digest in zip(files, digests, strict=True)
        if stamps[str(file)][1] < settled
    }
    if fresh != memo:
        with translate_os_errors(memo_path), write_atomically(memo_path, durable=False) as out:
            out.write(json.dumps(fresh).encode())
    return digests


def _recall(memo: dict[str, list], stamps: dict[str, list[int]], file: Path) -> str:
    known = memo.get(str(file))
    if known and known[:2] == stamps[str(file)]:
        return known[2]
    return hash_file(file)


def _stamp(file: Path) -> list[int]:
    """Size in bytes and time of the last change in nanoseconds."""
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def _locate_memo(root: Path) -> Path:
    name = hashlib.sha256(str(root).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return cache_dir() / "digests" / f"{name}.json"


def _read_memo(path: Path) -> dict[str, list]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):  # none yet, or not whole: the files are simply read again
        return {}
