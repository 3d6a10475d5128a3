"""How often a worker may be lost under the pipeline."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest
from ray.exceptions import WorkerCrashedError

from loam_runtime import remote
from loam_runtime.errors import WorkersLostError
from loam_runtime.observability.monitor import NullMonitor
from loam_runtime.pipeline import DOWNLOAD
from loam_runtime.training import ray_adapter


class Monitor:
    """What the head's monitor is told."""

    def __init__(self) -> None:
        self.losses: list[int] = []

    def log(self, event: str, *, num_losses: int, message: str) -> None:
        self.losses.append(num_losses)


class Stages:
    """A monitor whose stages say nothing."""

    def stage(self, name: str) -> AbstractContextManager[NullMonitor]:
        return nullcontext(NullMonitor())


class Workers:
    """Workers that are all lost, some of them after they had stored something."""

    def __init__(self, *advances: bool) -> None:
        self._advances = list(advances)

    def run(self, task: object, replay: remote._WatchedReplay) -> None:
        if not self._advances:
            return
        if self._advances.pop(0):
            replay.has_advanced = True
        raise WorkerCrashedError


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Monitor:
    monkeypatch.setattr(ray_adapter, "connect_ray", lambda num_workers: nullcontext())
    return Monitor()


def test_who_gets_on_may_lose_any_number(monkeypatch: pytest.MonkeyPatch, monitor: Monitor):
    """On spot nodes a long job loses many workers: it ends by its work, not by their number."""
    workers = Workers(*[False, False, True] * 5)
    monkeypatch.setattr(remote, "_run_once", workers.run)
    remote.run_on_worker(lambda: None, monitor)
    assert monitor.losses == [1, 2, 0] * 5


@pytest.mark.parametrize(
    ("stage", "error", "has_advanced"),
    [("split", "", True), ("split", "InputError: no", False), (DOWNLOAD, "", False)],
)
def test_only_what_is_stored_is_an_advance(stage: str, error: str, has_advanced: bool):
    """What a worker has downloaded is lost with it: one that dies of a model that it can download
    and not load would be started for ever."""
    replay = remote._WatchedReplay(Stages())
    replay({"call": "enter", "stage": stage})
    replay({"call": "exit", "stage": stage, "error": error})
    assert replay.has_advanced == has_advanced


def test_who_does_not_get_on_ends(monkeypatch: pytest.MonkeyPatch, monitor: Monitor):
    """A worker that dies of what it does would be started for ever."""
    workers = Workers(True, *[False] * 9)
    monkeypatch.setattr(remote, "_run_once", workers.run)
    with pytest.raises(WorkersLostError, match="lost 4 times in a row"):
        remote.run_on_worker(lambda: None, monitor)
    assert monitor.losses == [0, 1, 2, 3, 4]
