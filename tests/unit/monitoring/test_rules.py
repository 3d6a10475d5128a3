"""Dashboards and alerts ask for what is served, and each alert says what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY
from tests.tools.prometheus import run_promtool

import loam_operator.metrics
from loam_runtime.observability.metrics import CATALOG

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "loam"
RULES = CHART / "alerts" / "loam.yaml"
POD_LABELS = ("loam_dev_job", "loam_dev_step", "loam_dev_attempt")


def list_served() -> set[str]:
    """Series of the operator and of a job's head pod."""
    assert loam_operator.metrics  # which registers them
    served = {f"loam_{one.name}{'_total' if one.kind == 'counter' else ''}" for one in CATALOG}
    for family in REGISTRY.collect():
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
        served |= {family.name + ending for ending in endings.get(family.type, [""])}
    return served


def list_expressions() -> Iterator[tuple[str, str]]:
    """(where, expression) of all panels, variables and alerts."""
    for path in sorted((CHART / "dashboards").glob("*.json")):
        dashboard = json.loads(path.read_text("utf-8"))
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']}", target["expr"]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{path.name}: ${variable['name']}", variable["query"]
    for rule in read_rules():
        yield rule["alert"], rule["expr"]


def read_rules() -> list[dict]:
    (group,) = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return list(group["rules"])


@pytest.mark.parametrize(
    ("where", "expression"), list(list_expressions()), ids=lambda text: text[:40]
)
def test_it_asks_for_what_is_served(where: str, expression: str):
    """A renamed metric leaves a panel empty and an alert silent, and nobody is told."""
    asked = set(re.findall(r"\b(?:loam|process)_[a-z_]+", expression)) - set(POD_LABELS)
    assert asked, where
    assert asked <= list_served(), where


def test_alerts_fire_and_keep_still():
    """Each one by promtool, in a case where somebody is needed and in one where nobody is."""
    cases = Path(__file__).parent / "alert_cases.yaml"
    done = run_promtool("test", "rules", str(cases))
    assert done.returncode == 0, done.stdout + done.stderr
    tested = yaml.safe_load(cases.read_text("utf-8"))["tests"]
    checks = [check for case in tested for check in case["alert_rule_test"]]
    for rule in read_rules():
        outcomes = {bool(one["exp_alerts"]) for one in checks if one["alertname"] == rule["alert"]}
        assert outcomes == {True, False}, rule["alert"]


def test_every_alert_names_the_way_out():
    """Whoever is woken by it must not have to find out what it means first."""
    operations = (ROOT / "docs" / "operations.md").read_text("utf-8")
    for rule in read_rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "description"} <= set(rule["annotations"])
        assert f"| `{rule['alert']}` |" in operations, rule["alert"]
