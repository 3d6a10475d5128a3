"""A real API server for the tests of this folder, and what it printed where one fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.tools.control_plane import ControlPlane, run_control_plane
from tests.tools.operator_process import OperatorProcess, Stage, run_operator


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """etcd, API server and controller manager for the whole session, with all CRDs."""
    with run_control_plane(is_audited=True) as running:
        yield running


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A namespace of the test's own."""
    return control_plane.create_namespace()


@pytest.fixture
def stage(control_plane: ControlPlane, namespace: str) -> Stage:
    return Stage(control_plane.client, namespace)


@pytest.fixture
def operator(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> Iterator[OperatorProcess]:
    """An operator for the test's namespace only, so that tests do not meet."""
    with run_operator(
        control_plane.kubeconfig,
        tmp_path / "operator.log",
        LOAM_NAMESPACES=namespace,
        POD_NAMESPACE=namespace,
    ) as running:
        yield running


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
