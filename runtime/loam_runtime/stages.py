"""Stages that are done once: each leaves its files and a marker, and a restart goes on behind them.

A marker is the last thing a stage writes, so a stage that was killed has none and runs again
(what it keeps for itself, such as a teacher journal or checkpoints, makes that cheap). Its key
chains the markers before it: where an earlier stage comes out differently, later ones run anew.
The files of a stage that was done before are fetched when a later one opens its folder, and not
before: a pod that only writes the report has no room for merged weights.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from loam_runtime.errors import LoamError, StorageError
from loam_runtime.interrupts import raise_if_requested
from loam_runtime.storage.base import NotFoundError
from loam_runtime.storage.local import hash_file, translate_full_disk

if TYPE_CHECKING:
    from loam_runtime.observability.monitor import StageMonitor
    from loam_runtime.observability.relay import RelayedMonitor
    from loam_runtime.observability.run_monitor import RunMonitor
    from loam_runtime.storage.run_store import RunStore

# Of what stages leave for those behind them. A run that another version left unfinished begins
# anew, with its teacher's answers and its checkpoints, before a stage misses what it reads.
_FORMAT = "2"

StageFunction = Callable[[Path, "StageMonitor"], dict[str, Any]]


@dataclass
class StageOutput:
    """What a finished stage left.

    Attributes:
        result: JSON-able facts for the stages behind it.
        files: SHA-256 by path under the run's prefix.
        seconds: how long it took when it ran.
        fetch: brings the files here, those that are missing, and returns their folder.
    """

    result: dict[str, Any]
    files: dict[str, str]
    seconds: float
    fetch: Callable[[], Path]

    @cached_property
    def folder(self) -> Path:
        """Local folder with its files, laid out as under the run's prefix."""
        return self.fetch()


class StageRunner:
    """Runs stages in order and skips those that this run has already done.

    Attributes:
        outputs: by stage, in order, of those that are done; a later one's file replaces an
            earlier one's.
    """

    def __init__(self, run: RunStore, work_dir: Path, monitor: RunMonitor | RelayedMonitor) -> None:
        self._run = run
        self._work_dir = work_dir
        self._monitor = monitor
        self._chain = _FORMAT
        self.outputs: dict[str, StageOutput] = {}

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """By stage, of those that are done."""
        return {name: output.result for name, output in self.outputs.items()}

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, of those that are done."""
        return {name: output.seconds for name, output in self.outputs.items()}

    def run(self, name: str, function: StageFunction) -> StageOutput:
        """Return the stage's recorded output, or run it, store its files, and record it.

        Raises:
            InputError: the disk is full.
            KeyboardInterrupt: the run was told to stop during the stage before.
        """
        raise_if_requested()
        key = self._derive_key(name)
        marker = self._read_marker(name, key)
        if marker is None:
            marker = self._execute(name, key, function)
            folder = self._work_dir / name
            return self._note(name, marker, lambda: folder)
        return self._skip(name, marker)

    def recall(self, name: str) -> StageOutput:
        """Return the recorded output of a stage that must have been done before.

        Raises:
            LoamError: it was not, or not behind the stages that are recorded.
        """
        marker = self._read_marker(name, self._derive_key(name))
        if marker is None:
            raise LoamError(
                f"The stage {name} of this run is not done.",
                remedy="Run the job again: it goes on with that stage.",
            )
        return self._skip(name, marker)

    def _derive_key(self, name: str) -> str:
        return hashlib.sha256(f"{self._chain}/{name}".encode()).hexdigest()[:16]

    def _skip(self, name: str, marker: dict[str, Any]) -> StageOutput:
        self._monitor.skip(name, "done by an earlier start of this run")
        fetch = partial(self._restore_files, marker["files"], self._work_dir / name)
        return self._note(name, marker, fetch)

    def _note(self, name: str, marker: dict[str, Any], fetch: Callable[[], Path]) -> StageOutput:
        self._chain = hashlib.sha256(
            json.dumps([marker["key"], marker["files"], marker["result"]], sort_keys=True).encode()
        ).hexdigest()
        output = StageOutput(marker["result"], marker["files"], marker["seconds"], fetch)
        self.outputs[name] = output
        return output

    def _execute(self, name: str, key: str, function: StageFunction) -> dict[str, Any]:
        folder = self._work_dir / name
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

    def _restore_files(self, files: dict[str, str], folder: Path) -> Path:
        for relative, digest in files.items():
            local = folder / relative
            if local.is_file() and hash_file(local) == digest:
                continue
            if self._run.download_file(relative, local) != digest:
                raise StorageError(
                    f"{relative} of this run is not what its stage wrote.",
                    remedy="Delete the run's folder and run the job again.",
                )
        return folder
