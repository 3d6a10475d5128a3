"""The dashboards, asked in a real Prometheus that scraped a real operator and a real run.

A panel whose query has a misspelt name stays empty, and an empty panel looks like a quiet cluster.
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.control_plane.test_metrics import play_fleet
from tests.tools.control_plane import ROOT, ControlPlane
from tests.tools.fault_teacher import serve_script
from tests.tools.helm_tool import run_helm
from tests.tools.operator_process import OperatorProcess, Stage, run_operator
from tests.tools.processes import find_free_port
from tests.tools.prometheus import Prometheus, run_prometheus
from tests.tools.tiny_job import start_loam, write_examples, write_job
from tests.tools.waiting import wait_until

CHART = ROOT / "charts" / "loam"
# Nothing to see where all is well, or where there is no GPU.
EMPTY_BY_NATURE = ("API requests refused or unanswered, per second", "GPU memory")
POD_LABELS = {"loam_dev_job": "tiny", "loam_dev_step": "run", "loam_dev_attempt": "1"}
RUN_SECONDS = 600


def read_dashboards() -> dict[str, dict[str, Any]]:
    """By file name, as the chart's ConfigMaps hold them."""
    text = run_helm(
        "template", "loam", str(CHART), "--set", "dashboards.enabled=true", "--show-only",
        "templates/dashboards.yaml",
    )  # fmt: skip
    maps = [one for one in yaml.safe_load_all(text) if one]
    assert {one["metadata"]["labels"]["grafana_dashboard"] for one in maps} == {"1"}
    return {name: json.loads(body) for one in maps for name, body in one["data"].items()}


def list_queries() -> Iterator[tuple[str, str, str]]:
    """(dashboard, panel, expression) of all targets."""
    for name, dashboard in read_dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield name, panel["title"], target["expr"]


def fill_in(expression: str, namespace: str) -> str:
    """What Grafana does with its variables."""
    # The operator's namespaces are the cluster's; the run's is what the relabelling says.
    values = {
        "$__rate_interval": "20s",
        "$__range": "60s",
        "$namespace": namespace,
        "$job": "tiny",
        "$price": "2.5",
    }
    for name, value in values.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def read_finished_run(folder: Path) -> str:
    """The last scrape of a tiny job's exporter; it has a teacher and runs to its end."""
    port = find_free_port()
    last = ""
    with serve_script(write_examples) as teacher:
        prices = {"prompt": 1000, "completion": 2000}
        openai = {"baseURL": teacher.base_url, "model": "scripted", "prices": prices}
        manifest = write_job(
            folder,
            synthesis={"targetCount": 10, "teacher": {"kind": "openai", "openai": openai}},
        )
        process = start_loam(
            *("run", str(manifest), "--metrics-port", str(port)),
            cache=folder / "cache",
            LOAM_TEST_WITHOUT_RAY="1",
        )
        said: list[tuple[str, str]] = []
        reader = threading.Thread(target=lambda: said.append(process.communicate()))
        reader.start()

        def look() -> bool:
            nonlocal last
            with contextlib.suppress(OSError):
                url = f"http://127.0.0.1:{port}/metrics"
                with urllib.request.urlopen(url, timeout=5) as answer:
                    last = answer.read().decode()
            return process.poll() is not None

        wait_until(look, "the end of the run", RUN_SECONDS)
        reader.join()
    assert process.returncode == 0, said
    return last


@contextlib.contextmanager
def serve_folder(folder: Path) -> Iterator[int]:
    """The port of a server of plain files, until the block ends."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return read_finished_run(tmp_path_factory.mktemp("run"))


def build_scrapes(operator: OperatorProcess, run_port: int, namespace: str) -> list[dict[str, Any]]:
    """As the chart's PodMonitors make the Prometheus operator configure it."""
    run_labels = {**POD_LABELS, "namespace": namespace, "pod": "head"}
    return [
        {
            "job_name": "operator",
            "static_configs": [{"targets": [f"127.0.0.1:{operator.port}"]}],
        },
        {
            "job_name": "jobs",
            "static_configs": [{"targets": [f"127.0.0.1:{run_port}"], "labels": run_labels}],
        },
    ]


@pytest.fixture
def priced(control_plane: ControlPlane) -> Iterator[None]:
    """A profile for all jobs, which says what a GPU costs."""
    place = {"group": "loam.dev", "version": "v1alpha1", "plural": "finetuneprofiles"}
    body = {
        "apiVersion": "loam.dev/v1alpha1",
        "kind": "FineTuneProfile",
        "metadata": {"name": "priced"},
        "spec": {"default": True, "gpuHourPrice": 3600, "currency": "EUR"},
    }
    api = client.CustomObjectsApi(control_plane.client)
    api.create_cluster_custom_object(**place, body=body)
    yield
    api.delete_cluster_custom_object(**place, name="priced")


@pytest.mark.usefixtures("priced")
def test_every_panel_shows_something(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, finished_run: str
):
    """After one success, one failure, one training job and one finished run."""
    (tmp_path / "metrics").write_text(finished_run)
    stage = Stage(control_plane.client, namespace)
    settings = {"LOAM_NAMESPACES": namespace, "POD_NAMESPACE": namespace}
    with (
        run_operator(control_plane.kubeconfig, tmp_path / "operator.log", **settings) as operator,
        serve_folder(tmp_path) as run_port,
    ):
        scrapes = build_scrapes(operator, run_port, namespace)
        with run_prometheus(tmp_path, scrapes) as prometheus:
            wait_until(lambda: prometheus.query("loam_operator_is_leader"), "a first scrape")
            play_fleet(stage, operator)
            settled = 'increase(loam_operator_transitions_total{state="Training"}[20s])'
            wait_until(lambda: prometheus.query(settled), "two scrapes of the last state")
            empty = find_empty(prometheus, namespace)
    assert not [panel for panel in empty if panel[1] not in EMPTY_BY_NATURE]


def find_empty(prometheus: Prometheus, namespace: str) -> list[tuple[str, str, str]]:
    """Panels without data, once what was scraped had time to move."""
    return [
        (name, title, expression)
        for name, title, expression in list_queries()
        if not prometheus.query(fill_in(expression, namespace))
    ]
