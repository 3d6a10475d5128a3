"""Stages that are done once: each leaves its files and a marker, and a restart goes on behind them.

A marker is the last thing a stage writes, so a stage that was killed has none and runs again
(what it keeps for itself, such as a teacher journal or checkpoints, makes that cheap). Its key
chains the markers before it: where an earlier stage comes out differently, later ones run anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from loam_runtime.errors import StorageError
from loam_runtime.interrupts import raise_if_requested
from loam_runtime.storage.base import NotFoundError
from loam_runtime.storage.local import hash_file, translate_full_disk

if TYPE_CHECKING:
    from loam_runtime.observability.monitor import StageMonitor
    from loam_runtime.observability.relay import RelayedMonitor
    from loam_runtime.observability.run_monitor import RunMonitor
    from loam_runtime.storage.run_store import RunStore

StageFunction = Callable[[Path, "StageMonitor"], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class StageOutput:
    """What a finished stage left.

    Attributes:
        result: JSON-able facts for the stages behind it.
        folder: local folder with its files, laid out as under the run's prefix.
        seconds: how long it took when it ran.
    """

    result: dict[str, Any]
    folder: Path
    seconds: float


class StageRunner:
    """Runs stages in order and skips those that this run has already done.

    Attributes:
        folders: the stages' folders, in order; a later one's file replaces an earlier one's.
        results, seconds: by stage, of those that are done.
    """

    def __init__(self, run: RunStore, work_dir: Path, monitor: RunMonitor | RelayedMonitor) -> None:
        self._run = run
        self._work_dir = work_dir
        self._monitor = monitor
        self._chain = ""
        self.folders: list[Path] = []
        self.results: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}

    def run(self, name: str, function: StageFunction) -> StageOutput:
        """Return the stage's recorded output, or run it, store its files, and record it.

        Raises:
            InputError: the disk is full.
            KeyboardInterrupt: the run was told to stop during the stage before.
        """
        raise_if_requested()
        key = hashlib.sha256(f"{self._chain}/{name}".encode()).hexdigest()[:16]
        folder = self._work_dir / name
        marker = self._read_marker(name, key)
        if marker is None:
            marker = self._execute(name, key, folder, function)
        else:
            self._restore_files(marker["files"], folder)
            self._monitor.skip(name, "done by an earlier start of this run")
        self._chain = hashlib.sha256(
            json.dumps([key, marker["files"], marker["result"]], sort_keys=True).encode()
        ).hexdigest()
        self.folders.append(folder)
        self.results[name] = marker["result"]
        self.seconds[name] = marker["seconds"]
        return StageOutput(marker["result"], folder, marker["seconds"])

    def _execute(
        self, name: str, key: str, folder: Path, function: StageFunction
    ) -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        started = monotonic()
        with self._monitor.stage(name) as stage_monitor, translate_full_disk(folder):
            folder.mkdir(parents=True)
            result = function(folder, stage_monitor)
            files = self._run.upload_folder(folder, "")
        marker = {
            "key": key,
            "result": result,
            "files": files,
            "seconds": round(monotonic() - started, 3),
        }
        self._run.put(f"stages/{name}.json", json.dumps(marker, indent=1).encode())
        return marker

    def _read_marker(self, name: str, key: str) -> dict[str, Any] | None:
        try:
            marker = json.loads(self._run.get(f"stages/{name}.json"))
        except NotFoundError:
            return None
        return marker if marker["key"] == key else None

    def _restore_files(self, files: dict[str, str], folder: Path) -> None:
        for relative, digest in files.items():
            local = folder / relative
            if local.is_file() and hash_file(local) == digest:
                continue
            if self._run.download_file(relative, local) != digest:
                raise StorageError(
                    f"{relative} of this run is not what its stage wrote.",
                    remedy="Delete the run's folder and run the job again.",
                )
