from __future__ import annotations

import io
import re

import pytest

from loam_runtime.observability.live import LiveProgress
from loam_runtime.observability.progress import (
    PlainProgress,
    open_progress,
)
from loam_runtime.observability.work import RateEstimator, Work, format_duration

STAGES = ("split", "train")


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_are_few_and_carry_the_time_left():
    """A thousand steps into a log file must be a handful of lines, each saying how long still."""
    clock, stream = FakeClock(), io.StringIO()
    progress = PlainProgress(STAGES, stream, clock)
    progress.start_stage("train")
    progress.start_work("train", 1000, "steps")
    for _ in range(1000):
        clock.now += 1 / 16  # exact in binary, so that ten seconds are ten seconds
        progress.advance("train", 1, {"loss": 0.53214})
    progress.end_stage("train", "done", 62.5)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 8
    assert lines[0] == "[2/2] train ..."
    assert lines[1] == ("      train: 160/1,000 steps (16%), loss 0.5321, about 52 s left")
    assert lines[-1] == "      train: done in 1 min 2 s, loss 0.5321"


def test_a_resumed_piece_of_work_does_not_promise_too_much():
    """The first report after a resume holds earlier work: as a rate it would say "almost done"."""
    clock = FakeClock()
    work = Work(1000, "steps", clock)
    clock.now += 1
    work.advance(800, {})
    assert work.describe_time_left() == ""
    clock.now += 10
    work.advance(10, {})
    assert work.describe_time_left() == "about 3 min 10 s left"


def test_the_rate_follows_the_last_minute():
    """A slow start (compilation, cold cache) must not spoil the estimate for hours."""
    clock = FakeClock()
    rate = RateEstimator(clock)
    rate.add(0)
    clock.now += 600
    for done in range(1, 121):
        clock.now += 1
        rate.add(done)
    assert rate.estimate_seconds_left(240) == pytest.approx(120, rel=0.05)


def test_work_without_an_end_or_a_start_still_counts():
    """Reading a stream has no total; advancing before `start` is a slip, not a crash."""
    clock, stream = FakeClock(), io.StringIO()
    progress = PlainProgress(STAGES, stream, clock)
    progress.start_stage("split")
    clock.now += 11
    progress.advance("split", 5, {})
    progress.start_work("split", None, "rows")
    clock.now += 11
    progress.advance("split", 7, {"kept": 3})
    assert stream.getvalue().splitlines()[1:] == [
        "      split: 5 done",
        "      split: 7 rows, kept 3",
    ]


def test_live_bars_show_every_stage_and_leave_the_terminal_whole():
    """All stages are visible from the start; the cursor comes back however the run ends."""
    stream = Terminal()
    progress = open_progress(STAGES, stream)
    assert isinstance(progress, LiveProgress)
    progress.start_stage("split")
    progress.end_stage("split", "done", 1.5)
    progress.start_stage("train")
    progress.start_work("train", 10, "steps")
    progress.advance("train", 4, {"loss": 0.5, "row": "[red]not markup[/red]"})
    progress.close()
    shown = stream.getvalue()
    last_frame = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).splitlines()
    assert any("✓ split" in line and "1.5 s" in line for line in last_frame)
    assert any("● train" in line and "4/10 steps (40%)" in line for line in last_frame)
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")


def test_no_terminal_means_plain_lines():
    """Control codes in a CI log or a pod's log make it unreadable."""
    assert isinstance(open_progress(STAGES, io.StringIO()), PlainProgress)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (1234, "20 min"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
    ],
)
def test_durations_read_well(seconds, text):
    """No "60 s", no "3.3333 min": what people read is rounded once, at the end."""
    assert format_duration(seconds) == text
