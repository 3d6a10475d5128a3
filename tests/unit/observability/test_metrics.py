from __future__ import annotations

import re
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from loam_runtime.observability.metrics import CATALOG, OTHER, STAGE_STATES, Metrics

BASE_UNITS = ("seconds", "bytes")
FORBIDDEN_UNITS = re.compile(
    r"(milli|micro|nano)seconds|_ms$|minutes|hours|kilobytes|_mb$|_gb$|percent"
)
STAGES = ("split", "train")


def touch_everything(metrics: Metrics) -> None:
    for spec in CATALOG:
        labels = {label: (values or STAGES)[0] for label, values in spec.labels.items()}
        update = metrics.count if spec.kind == "counter" else metrics.set_gauge
        update(spec.name, 1, **labels)


def parse(text: str) -> dict:
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_names_and_help_follow_the_conventions():
    """Dashboards and alerts are written against names: prefix, base units, `_total` on counters
    and on nothing else; a renamed or unit-less metric breaks them silently."""
    metrics = Metrics(STAGES)
    touch_everything(metrics)
    families = parse(metrics.render())
    assert len(families) == len(CATALOG)
    for name, family in families.items():
        assert re.fullmatch(r"loam_[a-z][a-z0-9_]*", name)
        assert family.documentation.strip().endswith(".")
        assert not FORBIDDEN_UNITS.search(name)
        totals = {sample.name.endswith("_total") for sample in family.samples}
        assert totals == {family.type == "counter"}
        for unit in BASE_UNITS:
            assert name.count(unit) <= 1


def test_no_created_series_are_exposed():
    """A `_created` series per counter would double what Prometheus stores for a job."""
    metrics = Metrics(STAGES)
    touch_everything(metrics)
    assert "_created" not in metrics.render()


@given(st.text(), st.text())
def test_label_values_are_bounded(stage, outcome):
    """A user's text as a label value must not open a series: cardinality would grow with data."""
    metrics = Metrics(STAGES)
    metrics.count("rows", stage=stage, outcome=outcome)
    samples = parse(metrics.render())["loam_rows"].samples
    declared = next(spec for spec in CATALOG if spec.name == "rows").labels["outcome"]
    for sample in samples:
        assert sample.labels["stage"] in (*STAGES, OTHER)
        assert sample.labels["outcome"] in (*declared, OTHER)


def test_most_series_a_run_can_have_is_small():
    """The catalog's label sets multiply; their product is what one job can cost a Prometheus."""
    total = 0
    for spec in CATALOG:
        series = 1
        for values in spec.labels.values():
            series *= len(values or range(10)) + 1
        total += series
    assert total < 300


def test_missing_and_unknown_labels_are_other():
    """A forgotten label is counted, visibly, instead of failing the stage."""
    metrics = Metrics(STAGES)
    metrics.count("teacher_requests", 2)
    metrics.count("teacher_requests", 3, outcome="ok", surprise="x")
    samples = parse(metrics.render())["loam_teacher_requests"].samples
    assert {sample.labels["outcome"]: sample.value for sample in samples} == {OTHER: 2, "ok": 3}


def test_stage_state_is_exactly_one():
    """A stage that shows as running and done at once would make every alert on it wrong."""
    metrics = Metrics(STAGES)
    for state in ("pending", "running", "done"):
        metrics.set_stage_state("train", state)
    samples = parse(metrics.render())["loam_stage_state"].samples
    values = {sample.labels["state"]: sample.value for sample in samples}
    assert set(values) == set(STAGE_STATES)
    assert [state for state, value in values.items() if value] == ["done"]


@pytest.mark.parametrize("name", ["no_such_metric", "training_loss"])
def test_wrong_metric_name_or_kind_is_an_error(name):
    """A misspelt metric must not be swallowed here; the monitor decides what becomes of it."""
    with pytest.raises(KeyError):
        Metrics(STAGES).count(name)


def test_scrape_over_http_and_close():
    """A pod's exporter answers a real scrape on the port it names, and frees it afterwards."""
    metrics = Metrics(STAGES)
    metrics.count("rows", 7, stage="split", outcome="read")
    exporter = metrics.serve(0)
    url = f"http://127.0.0.1:{exporter.port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        families = parse(response.read().decode())
    assert families["loam_rows"].samples[0].value == 7
    exporter.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=10)
