"""A run that was told to stop stops, whatever a library does with what it was told by."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from loam_runtime import interrupts
from loam_runtime.interrupts import raise_if_requested
from loam_runtime.observability.relay import RelayedMonitor
from loam_runtime.stages import StageRunner
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


def test_nothing_stops_unasked(installed: None):
    raise_if_requested()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_behind_the_last_step_is_not_lost(number: signal.Signals):
    """Training asks after each step; a caller with more to do would go on as if nobody had come."""
    with pytest.raises(KeyboardInterrupt), defer_interrupts():
        signal.raise_signal(number)
