"""What training waits for is told to who watches it: GPUs that wait are paid for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from loam_runtime.observability.monitor import NullMonitor, WaitReason
from loam_runtime.steps.training_events import TrainingEvents
from loam_runtime.training.distributed import Distributed
from loam_runtime.training.ray_worker import _tell_download


@dataclass
class Waits(NullMonitor):
    """Notes what is waited for."""

    noted: list[tuple[str, float]] = field(default_factory=list)

    def note_wait(self, reason: WaitReason, seconds: float) -> None:
        self.noted.append((reason, seconds))


@dataclass
class Line:
    """A worker's line to the driver, which hands events on."""

    events: TrainingEvents

    def post(self, event: dict[str, Any]) -> None:
        self.events(event)


def test_both_waits_of_the_loop_reach_the_monitor():
    """From the worker that downloads, and from the loop that saves: an event that is called
    otherwise on the way is dropped without a word."""
    waits = Waits()
    events = TrainingEvents(waits)
    saved = {"step": 4, "seconds": 9.0, "waited_seconds": 1.5, "bytes": 7}
    events({"event": "checkpoint", **saved})
    alone = Distributed(torch.device("cpu"))
    for seconds in (0.0, 30.0):  # on the driver's machine there is nothing to download
        _tell_download(alone, Line(events), seconds)
    assert waits.noted == [("checkpoint", 1.5), ("download", 30.0)]
