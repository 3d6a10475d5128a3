"""Two jobs that ask the same take turns."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from loam_runtime.storage.registry import open_store
from loam_runtime.synthesis.leases import PREFIX, Lease


def hold(folder: Path, **record: object) -> None:
    """A lease that another process holds."""
    full = {"until": time.time() + 600, "host": "elsewhere", "pid": 1, "nonce": "n", **record}
    open_store(f"file://{folder}").put(f"{PREFIX}k.json", json.dumps(full).encode())


async def is_taken_within(folder: Path, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds), Lease(open_store(f"file://{folder}"), "k"):
            return True
    except TimeoutError:
        return False


def test_one_at_a_time(tmp_path: Path) -> None:
    """Of five that want the lease at once, never two hold it: two would pay for one answer."""

    async def use() -> int:
        inside = entered = 0

        async def work() -> None:
            nonlocal inside, entered
            async with Lease(open_store(f"file://{tmp_path}"), "k", seconds=0.3):
                inside += 1
                entered += 1
                assert inside == 1
                await asyncio.sleep(0.4)  # longer than the lease: it is renewed meanwhile
                inside -= 1

        await asyncio.gather(*(work() for _ in range(5)))
        return entered

    assert asyncio.run(use()) == 5


def test_living_holder_elsewhere_is_waited_for(tmp_path: Path) -> None:
    """Only time tells whether a holder on another machine is dead."""
    hold(tmp_path)
    assert not asyncio.run(is_taken_within(tmp_path, 1.5))


def test_dead_holder_is_succeeded(tmp_path: Path) -> None:
    """A lease that ran out, that was let go, or whose process on this host is no more, holds
    nobody up."""
    hold(tmp_path, until=time.time() - 1)
    assert asyncio.run(is_taken_within(tmp_path, 10))
    assert asyncio.run(is_taken_within(tmp_path, 10))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    hold(tmp_path, host=socket.gethostname(), pid=ended.pid)
    assert asyncio.run(is_taken_within(tmp_path, 10))
