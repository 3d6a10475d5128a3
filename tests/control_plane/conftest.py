"""A real API server for the tests of this folder, and what it printed where one fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from tests.tools.control_plane import ControlPlane, run_control_plane


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """etcd, API server and controller manager for the whole session, with all CRDs."""
    with run_control_plane() as running:
        yield running


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A namespace of the test's own."""
    return control_plane.create_namespace()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the servers' latest log lines to the report of a failure."""
    report = yield
    running = getattr(item, "funcargs", {}).get("control_plane")
    if report.failed and running:
        for name in running.processes.list_logs():
            report.sections.append((name, running.processes.read_log(name)))
    return report
