"""A run that was told to stop stops, whatever a library does with what it was told by."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tools.tiny_job import write_job

from loam_runtime import interrupts
from loam_runtime.errors import InputError, StorageError
from loam_runtime.interrupts import raise_if_requested
from loam_runtime.manifest import load_manifest
from loam_runtime.observability.progress import open_progress
from loam_runtime.observability.relay import RelayedMonitor
from loam_runtime.pipeline import STAGES, Try, lead_run
from loam_runtime.stages import StageRunner
from loam_runtime.storage.file import FileStore
from loam_runtime.storage.registry import open_store
from loam_runtime.storage.run_store import RunStore
from loam_runtime.training.local import defer_interrupts


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The handlers of `loam`, until the test is over."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(interrupts, "_is_requested", False)
    interrupts.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def swallow(number: signal.Signals) -> None:
    """What a library's bare `except:` does."""
    with contextlib.suppress(BaseException):
        os.kill(os.getpid(), number)
        signal.pause()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_swallowed_signal_ends_the_run_before_the_next_stage(
    installed: None, tmp_path: Path, number: signal.Signals
):
    """Ctrl-C that does nothing is answered by kill -9, or by hours that nobody wanted."""
    run = RunStore(open_store(f"file://{tmp_path}/out"), "run")
    run.acquire("default/job", 1)
    stages = StageRunner(run, tmp_path / "work", RelayedMonitor(lambda event: None))

    def told_to_stop(folder: Path, monitor: object) -> dict[str, int]:
        swallow(number)
        return {"rows": 7}

    assert stages.run("split", told_to_stop).result == {"rows": 7}  # its work is kept
    with pytest.raises(KeyboardInterrupt):
        stages.run("train", lambda folder, monitor: {})
    assert "train" not in stages.results


class FailingStore(FileStore):
    """A store that goes down when it is told to."""

    is_down = False

    def put(self, key: str, data: bytes, **conditions: Any) -> str:
        if self.is_down:
            raise StorageError("The store is down.")
        return super().put(key, data, **conditions)

    def upload_file(self, path: Path, key: str) -> str:
        if self.is_down:
            raise StorageError("The store is down.")
        return super().upload_file(path, key)


@pytest.mark.parametrize("end", [KeyboardInterrupt(), InputError("The seeds are bad."), None])
def test_the_end_of_a_run_is_told_and_not_that_of_its_store(
    end: BaseException | None, monkeypatch, capsys, tmp_path: Path
):
    """A store that is down when the run ends hides neither a Ctrl-C, which would then count as a
    failure, nor the error that the user has to mend; where there is none it is the error."""
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))
    job = load_manifest(write_job(tmp_path))
    store = FailingStore(tmp_path / "output")
    run = RunStore(store, "run")

    def lead() -> None:
        with lead_run(run, job, Try(), open_progress(STAGES), ("127.0.0.1", 0)):
            store.is_down = True
            if end:
                raise end

    with pytest.raises(type(end or StorageError(""))) as caught:
        lead()
    assert end is None or caught.value is end
    told = capsys.readouterr().err
    assert "The lock of the run was not released: The store is down." in told
    assert ("The log of the run was not stored: The store is down." in told) == bool(end)


def test_nothing_stops_unasked(installed: None):
    raise_if_requested()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_behind_the_last_step_is_not_lost(number: signal.Signals):
    """Training asks after each step; a caller with more to do would go on as if nobody had come."""
    with pytest.raises(KeyboardInterrupt), defer_interrupts():
        signal.raise_signal(number)
