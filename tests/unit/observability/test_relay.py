"""A run watched from another process looks the same as one that is watched at home."""

from __future__ import annotations

import io
import logging
import pickle
from pathlib import Path

import pytest

from loam_runtime.errors import OutOfMemoryError
from loam_runtime.observability.logs import EventLog
from loam_runtime.observability.metrics import Metrics
from loam_runtime.observability.progress import PlainProgress
from loam_runtime.observability.relay import RelayedMonitor, Replay
from loam_runtime.observability.run_monitor import RunMonitor

STAGES = ("split", "train")


class Watch:
    """A real monitor, and what it leaves."""

    def __init__(self, folder: Path) -> None:
        self.stream = io.StringIO()
        self.metrics = Metrics(STAGES)
        self.log = EventLog(folder / "log.jsonl", job="job", attempt=1)
        progress = PlainProgress(STAGES, self.stream, lambda: 0.0)
        self.monitor = RunMonitor(
            STAGES,
            metrics=self.metrics,
            event_log=self.log,
            progress=progress,
            clock=lambda: 0.0,
        )

    def read_events(self) -> list[str]:
        """The log without its times."""
        return [line.split('"level"', 1)[1] for line in self.log.path.read_text().splitlines()]

    def read_metrics(self) -> str:
        return self.metrics.render()


@pytest.fixture
def watches(tmp_path: Path) -> tuple[Watch, Watch]:
    return Watch(tmp_path / "here"), Watch(tmp_path / "there")


def run_stages(monitor: RunMonitor | RelayedMonitor) -> None:
    """A bit of everything that stages say."""
    monitor.skip("split", "done by an earlier start of this run")
    with monitor.stage("train") as stage:
        stage.start(10, "steps")
        stage.advance(4, loss=0.5)
        stage.log("checkpoint", step=4, level="warning")
        stage.count("training_steps", 4)
        stage.gauge("training_loss", 0.5)
        stage.note_wait("checkpoint", 1.5)
        stage.count("no_such_metric")
    monitor.log("run_ended", rows=3)


def relay_to(monitor: RunMonitor) -> tuple[RelayedMonitor, Replay]:
    """Both sides, and between them what a channel between processes does to an event."""
    replay = Replay(monitor)
    return RelayedMonitor(lambda event: replay(pickle.loads(pickle.dumps(event)))), replay


def test_nothing_is_lost_on_the_way(watches: tuple[Watch, Watch]):
    """A metric or a line that only the worker sees is one that nobody sees."""
    here, there = watches
    run_stages(here.monitor)
    relayed, _ = relay_to(there.monitor)
    run_stages(relayed)
    assert there.read_events() == here.read_events()
    assert there.stream.getvalue() == here.stream.getvalue()
    lines = [line for line in here.read_metrics().splitlines() if "_created" not in line]
    assert [one for one in there.read_metrics().splitlines() if "_created" not in one] == lines


def test_a_failure_there_is_a_failed_stage_here(watches: tuple[Watch, Watch]):
    """The error goes its own way; the stage must not stay "running" for ever."""
    _, there = watches
    relayed, _ = relay_to(there.monitor)
    with pytest.raises(OutOfMemoryError), relayed.stage("train"):
        raise OutOfMemoryError("No room for one row.")
    assert "train: failed" in there.stream.getvalue()
    assert "OutOfMemoryError: No room for one row." in there.log.path.read_text()


def test_the_stages_of_a_lost_worker_have_failed(watches: tuple[Watch, Watch]):
    """The next worker enters the same stage, and both would be counted as running."""
    _, there = watches
    replay = Replay(there.monitor)
    replay({"call": "enter", "stage": "train"})
    replay.abandon("the worker was lost")
    replay({"call": "enter", "stage": "train"})
    replay({"call": "exit", "stage": "train", "error": ""})
    assert there.stream.getvalue().count("train: failed") == 1
    assert there.stream.getvalue().count("train: done") == 1


def test_what_libraries_say_is_relayed(watches: tuple[Watch, Watch]):
    _, there = watches
    relayed, _ = relay_to(there.monitor)
    with relayed.capture_logging():
        logging.getLogger("some.library").warning("a NaN at %s", "step 4")
    assert "a NaN at step 4" in there.log.path.read_text()
