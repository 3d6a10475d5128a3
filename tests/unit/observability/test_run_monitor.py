from __future__ import annotations

import ast
import io
import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import loam_runtime.errors
from loam_runtime.observability.logs import EventLog
from loam_runtime.observability.metrics import CATALOG, Metrics
from loam_runtime.observability.monitor import NullMonitor, StageMonitor
from loam_runtime.observability.progress import PlainProgress
from loam_runtime.observability.run_monitor import RunMonitor

STAGES = ("split", "train")


class Run:
    """A monitor with all its parts at hand and a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.stream = io.StringIO()
        self.metrics = Metrics(STAGES)
        self.log = EventLog(folder / "log.jsonl", job="tickets", attempt=2)
        progress = PlainProgress(STAGES, self.stream, self.read_clock)
        self.monitor = RunMonitor(
            STAGES,
            metrics=self.metrics,
            event_log=self.log,
            progress=progress,
            clock=self.read_clock,
        )

    def read_clock(self) -> float:
        return self.now

    def read_events(self) -> list[dict]:
        return [json.loads(line) for line in self.log.path.read_text().splitlines()]

    def read_samples(self) -> dict[tuple, float]:
        families = text_string_to_metric_families(self.metrics.render())
        return {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in families
            for sample in family.samples
        }


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path)
    yield run
    run.monitor.close()


def test_one_stage_reaches_progress_log_metrics_and_timings(run):
    """The four must agree: a report with other timings than the metrics is not believed."""
    with run.monitor.stage("train") as monitor:
        monitor.start(10, "steps")
        run.now += 12
        monitor.advance(4, loss=0.5)
        monitor.log("checkpoint_written", num_bytes=7, level="debug", stage="mine", event="e")
        monitor.count("rows", 3, outcome="kept")
        monitor.gauge("training_loss", 0.5)
        monitor.note_wait("checkpoint", 2.5)
    assert run.monitor.timings == {"train": 12}
    assert run.read_samples()["loam_wait_seconds_total", "checkpoint"] == 2.5
    events = run.read_events()
    assert [event["event"] for event in events] == [
        "stage_started",
        "work_started",
        "checkpoint_written",
        "stage_ended",
    ]
    assert {event["stage"] for event in events} == {"train"}
    assert events[2]["level"] == "debug"
    assert events[2]["fields"] == {"num_bytes": 7, "stage": "mine", "event": "e"}
    samples = run.read_samples()
    assert samples["loam_rows_total", "kept", "train"] == 3
    assert samples["loam_stage_duration_seconds", "train"] == 12
    assert samples["loam_stage_state", "done", "train"] == 1
    assert samples["loam_stage_state", "pending", "split"] == 1
    assert "4/10 steps" in run.stream.getvalue()


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError("no rows"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_a_failed_stage_says_so_and_lets_the_error_through(run, error, state):
    """A swallowed error would publish half a run; an unrecorded one leaves no trace of why."""

    def fail() -> None:
        with run.monitor.stage("split"):
            run.now += 3
            raise error

    with pytest.raises(type(error)):
        fail()
    assert run.monitor.timings == {"split": 3}
    ending = run.read_events()[-1]
    assert ending["level"] == "error"
    assert ending["fields"]["error"] == type(error).__name__
    assert run.read_samples()["loam_stage_state", state, "split"] == 1


def test_a_stage_entered_twice_adds_up(run):
    """Training resumed within one process has cost the sum, not the last piece."""
    for _ in range(2):
        with run.monitor.stage("train"):
            run.now += 5
    assert run.monitor.timings == {"train": 10}
    assert run.read_samples()["loam_stage_duration_seconds", "train"] == 10


def test_a_skipped_stage_is_no_silence(run):
    """A stage that has nothing to do must not look as if it were still to come."""
    run.monitor.skip("split")
    assert run.read_events()[-1]["fields"] == {"reason": "done earlier"}
    assert run.read_samples()["loam_stage_state", "skipped", "split"] == 1


def test_a_wrong_metric_does_not_end_the_run(run):
    """A misspelt name or a negative count in a stage is logged, hours of training are kept."""
    with run.monitor.stage("train") as monitor:
        monitor.count("no_such_metric")
        monitor.count("rows", -1)
    refused = [event for event in run.read_events() if event["event"] == "metric_refused"]
    assert [event["fields"]["metric"] for event in refused] == ["no_such_metric", "rows"]


def find_metric_calls() -> list[tuple[str, str, set[str], str]]:
    """(method, metric, label names, place) of every `....count("x")` and `....gauge("x")`."""
    package = Path(loam_runtime.errors.__file__).parent
    calls = []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            is_monitor = "monitor" in ast.unparse(node.func.value)
            if is_monitor and node.func.attr in ("count", "gauge") and node.args:
                labels = {keyword.arg for keyword in node.keywords if keyword.arg}
                metric = ast.literal_eval(node.args[0])
                calls.append((node.func.attr, metric, labels, f"{path.name}:{node.lineno}"))
    return calls


def test_every_metric_that_the_stages_name_is_in_the_catalog():
    """The monitor forgives a wrong name at run time, so it is caught here, before a release."""
    kinds = {"count": "counter", "gauge": "gauge"}
    catalog = {spec.name: spec for spec in CATALOG}
    for method, metric, labels, place in find_metric_calls():
        assert metric in catalog, f"{place} names {metric}"
        assert catalog[metric].kind == kinds[method], place
        assert labels - {"n", "value"} <= set(catalog[metric].labels), place


def test_null_monitor_takes_everything():
    """As a library, a stage runs without any set-up for watching."""
    monitor: StageMonitor = NullMonitor()
    monitor.start(None, "rows")
    monitor.advance(3, loss=1.0)
    monitor.log("event", level="info")
    monitor.count("rows", 2, outcome="kept")
    monitor.gauge("training_loss", 1.0)
