"""A whole Kubernetes node for the tests of this folder, and all it has to say where one fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from kubernetes import client
from tests.tools.fault_proxy import run_fault_proxy
from tests.tools.node import Node, run_node
from tests.tools.node_job import NodeJob, Storage
from tests.tools.node_network import GATEWAY
from tests.tools.node_pods import describe_pods
from tests.tools.release import install_release
from tests.tools.s3_server import run_s3_server
from tests.tools.waiting import wait_until


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """The node for the whole session, with KubeRay."""
    with run_node() as running:
        yield running


@pytest.fixture(scope="session")
def storage(node: Node) -> Iterator[Storage]:
    """An S3 server at an address that pods reach, behind a proxy that can hold them up."""
    with (
        run_s3_server(GATEWAY) as server,
        run_fault_proxy(server.endpoint, GATEWAY) as proxy,
    ):
        yield Storage(server, proxy)


@pytest.fixture(scope="session")
def release(node: Node) -> None:
    """Loam itself, from images of this tree."""
    install_release(node)


@pytest.fixture
def job(
    node: Node, release: None, storage: Storage, namespace: str, tmp_path: Path
) -> Iterator[NodeJob]:
    """A job of the test's own, its Secret there and itself not applied yet."""
    made = NodeJob(node.control_plane.client, namespace, storage, tmp_path)
    made.create_secret()
    yield made
    # What is held would hold the end of its pods.
    if storage.proxy.gate:
        storage.proxy.gate.open()


@pytest.fixture
def namespace(node: Node) -> Iterator[str]:
    """A namespace of the test's own; its pods make room for the next test's."""
    name = node.control_plane.create_namespace()
    yield name
    core = client.CoreV1Api(node.control_plane.client)
    core.delete_namespace(name)
    # Not for its own end: Kubernetes looks again only after half of the pods' grace period.
    wait_until(lambda: not core.list_namespaced_pod(name).items, f"the end of the pods in {name}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add events, pods and the servers' latest log lines to the report of a failure."""
    report = yield
    running = getattr(item, "funcargs", {}).get("node")
    if report.failed and running and report.when != "teardown":
        report.sections += describe_pods(running.control_plane.client)
        processes = running.control_plane.processes
        report.sections += [(name, processes.read_log(name)) for name in processes.list_logs()]
    return report
