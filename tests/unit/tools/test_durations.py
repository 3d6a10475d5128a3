"""The budgets of the tests' time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.tools.durations import DurationReport


def _play(seconds: list[float], status: int = pytest.ExitCode.OK) -> tuple[list[str], Any]:
    """What is overdrawn, and the run's exit status, after tests of one group with a budget of 5."""
    plugin = DurationReport({"tests/unit": 5})
    for duration in seconds:
        report = SimpleNamespace(nodeid="tests/unit/api/test_x.py::test_y[a/b]", duration=duration)
        plugin.pytest_runtest_logreport(report)  # type: ignore[arg-type]
    session = SimpleNamespace(exitstatus=status)
    plugin.pytest_sessionfinish(session)  # type: ignore[arg-type]
    return plugin.list_overdrawn(), session.exitstatus


def test_a_group_within_its_budget_passes() -> None:
    """Else every run would fail."""
    assert _play([2.0, 3.0]) == ([], pytest.ExitCode.OK)


def test_a_group_past_its_budget_fails_the_run_by_name() -> None:
    """Else the tests grow slower, one by one, until nobody runs them."""
    overdrawn, status = _play([2.0, 3.5])
    assert status == pytest.ExitCode.TESTS_FAILED
    assert len(overdrawn) == 1
    assert "tests/unit took 6 s of 5 s" in overdrawn[0]


def test_a_run_that_failed_otherwise_keeps_its_own_status() -> None:
    """Else an interrupted run would look like one with a failed test."""
    assert _play([9.0], pytest.ExitCode.INTERRUPTED)[1] == pytest.ExitCode.INTERRUPTED
