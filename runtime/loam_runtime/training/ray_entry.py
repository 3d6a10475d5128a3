"""Where a Ray Train worker begins. It imports nothing heavy: Ray's controller unpickles it too,
before it starts the workers, and would spend seconds on libraries that only they need.
"""

from __future__ import annotations

from typing import Any


def run_worker(settings: dict[str, Any]) -> dict[str, Any] | None:
    """Ray Train's training function; see `ray_worker.work`."""
    from loam_runtime.training.ray_worker import work

    return work(settings["task"], settings["mailbox"])
