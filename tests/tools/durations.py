"""Seconds of each group of tests beside its budget; a group that passes its budget fails the run.

Seconds are those of all its tests together, with their fixtures; two of them run at a time. A
budget leaves room for a machine's bad day, and that of e2e for the first building of its images.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

BUDGET_SECONDS = {
    "tests/unit": 900,
    "tests/control_plane": 2000,
    "tests/integration": 3000,
    "tests/e2e": 3600,
}


class DurationReport:
    """Adds up what pytest reports; a plugin."""

    def __init__(self, budgets: dict[str, int]) -> None:
        self._budgets = budgets
        self._seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        group = "/".join(Path(report.nodeid.partition("::")[0]).parts[:2])
        self._seconds[group] += report.duration

    def list_overdrawn(self) -> list[str]:
        """One line for each group that took longer than it may."""
        return [
            f"{group} took {self._seconds[group]:.0f} s of {budget} s: make its slowest tests "
            "cheaper, or let them share what they start"
            for group, budget in self._budgets.items()
            if self._seconds[group] > budget
        ]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.OK and self.list_overdrawn():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("seconds by group of tests")
        for group, seconds in sorted(self._seconds.items()):
            budget = self._budgets.get(group)
            of_budget = f" of {budget} s" if budget else ""
            terminalreporter.write_line(f"{group}: {seconds:.0f} s{of_budget}")
        for line in self.list_overdrawn():
            terminalreporter.write_line(line, red=True)
