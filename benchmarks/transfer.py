"""Folders to and from an S3 server: Loam's transfers against boto3's plain per-file loop.

    python benchmarks/transfer.py

Each case is measured in turn, plain and Loam alternating, on one server (versitygw) on this
machine; the figure is the median of `NUM_ROUNDS`. Loam's side includes its SHA-256 of every
file in both directions, which the plain loop does not have.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the server that the tests share

from tests.tools.s3_server import S3Server, run_s3_server

from loam_runtime.storage.s3 import S3Store
from loam_runtime.storage.transfer import download_folder, upload_folder

NUM_ROUNDS = 3
MEBIBYTE = 1 << 20
# Number of files and bytes of each; every case holds 500 MiB.
CASES = {
    "many files": [(2000, 64 << 10), (75, 5 * MEBIBYTE)],
    "one file": [(1, 500 * MEBIBYTE)],
}


def write_files(folder: Path, sizes: list[tuple[int, int]]) -> None:
    """Random files, spread over subfolders of at most 100."""
    for kind, (count, num_bytes) in enumerate(sizes):
        for index in range(count):
            path = folder / f"{kind}-{index // 100:02d}" / f"{index:05d}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(num_bytes))


def upload_plainly(client, bucket: str, local: Path, prefix: str) -> None:
    for path in sorted(local.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(local).as_posix()}")


def download_plainly(client, bucket: str, prefix: str, local: Path) -> None:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    for item in (item for page in pages for item in page["Contents"]):
        target = local / item["Key"].removeprefix(f"{prefix}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, item["Key"], str(target))


def measure(name: str, plain: Callable[[], None], loam: Callable[[], None]) -> None:
    """Print the median seconds of both and their ratio."""
    seconds: dict[str, list[float]] = {"plain": [], "loam": []}
    for _ in range(NUM_ROUNDS):
        for side, run in (("plain", plain), ("loam", loam)):
            started = time.perf_counter()
            run()
            seconds[side].append(time.perf_counter() - started)
    plain_seconds, loam_seconds = (statistics.median(seconds[side]) for side in seconds)
    print(
        f"{name:24} plain {plain_seconds:6.2f} s   loam {loam_seconds:6.2f} s   "
        f"ratio {plain_seconds / loam_seconds:5.2f}",
        flush=True,
    )


def run_case(server: S3Server, name: str, sizes: list[tuple[int, int]]) -> None:
    client, bucket = server.create_client(), server.create_bucket()
    store = S3Store(bucket)
    with tempfile.TemporaryDirectory() as folder:
        source, plain_copy, loam_copy = (Path(folder, kind) for kind in ("in", "plain", "loam"))
        write_files(source, sizes)
        measure(
            f"{name}, up",
            lambda: upload_plainly(client, bucket, source, "plain"),
            lambda: upload_folder(source, store, "loam"),
        )
        measure(
            f"{name}, down",
            lambda: download_plainly(client, bucket, "plain", plain_copy),
            lambda: download_folder(store, "loam", loam_copy),
        )


def main() -> None:
    with run_s3_server() as server:
        os.environ.update(server.env)
        for name, sizes in CASES.items():
            run_case(server, name, sizes)


if __name__ == "__main__":
    main()
