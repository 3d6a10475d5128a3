"""Connections between the operator and the API server end, or go silent, while things happen."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tools.control_plane import ControlPlane
from tests.tools.cut_proxy import CutProxy, run_cut_proxy
from tests.tools.fleet import Fleet, disturb
from tests.tools.operator_process import Stage, run_operator
from tests.tools.waiting import wait_until

from loam_operator.lease import RENEW_SECONDS

MIN_CUTS = 20
MOST_QUIET_SECONDS = 2.0  # where the machine is slow too, nothing gets done in the short pauses
PATIENCE_SECONDS = 10.0
# The real one is a minute and a half; whether it is kept does not depend on how long it is.
IMPATIENT = f"""
import sys
from loam_operator import health, main
health.PULSE_SECONDS = {PATIENCE_SECONDS}
sys.exit(main.main())
"""


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[CutProxy]:
    with run_cut_proxy(control_plane.url) as running:
        yield running


@pytest.fixture
def kubeconfig(control_plane: ControlPlane, proxy: CutProxy, tmp_path: Path) -> Path:
    """The administrator's, by way of the proxy."""
    document = json.loads(control_plane.kubeconfig.read_text("utf-8"))
    document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_cut_connections_lose_and_double_nothing(
    control_plane: ControlPlane, proxy: CutProxy, kubeconfig: Path, stage: Stage, tmp_path: Path
):
    """A watch that is cut has missed what happened until the next one, and a request that is cut
    may have been carried out: each job ends right, with each RayJob made once."""
    settings = {"LOAM_NAMESPACES": stage.namespace, "POD_NAMESPACE": stage.namespace}
    fleet = Fleet(stage, control_plane.etcd_url, num_each=2)
    num_cut = 0

    def cut(chance: random.Random) -> None:
        nonlocal num_cut
        num_cut += proxy.cut()

    with (
        run_operator(kubeconfig, tmp_path / "operator.log", **settings),
        disturb(cut, 11, MOST_QUIET_SECONDS),
    ):
        fleet.apply()
        fleet.play()
    assert num_cut >= MIN_CUTS


def test_a_frozen_watch_is_noticed(proxy: CutProxy, kubeconfig: Path, stage: Stage, tmp_path: Path):
    """A watch that is silent and not closed looks like a quiet cluster, for hours: the probe fails,
    and what happened meanwhile is found out by the operator that the kubelet starts instead."""
    settings = {"LOAM_NAMESPACES": stage.namespace, "POD_NAMESPACE": stage.namespace}
    log = tmp_path / "operator.log"
    with run_operator(kubeconfig, log, program=IMPATIENT, **settings) as operator:
        stage.apply("missed")
        stage.await_ray_job("missed-prepare-a1")
        silent = RENEW_SECONDS + 1  # the lease's connection is used more often than that

        def fails() -> bool:
            proxy.freeze_watches(silent)
            return "no watch event" in operator.read_failure("healthz")

        wait_until(fails, "the probe to fail")
        stage.publish("missed-prepare-a1", 1)
        operator.kill()
        operator.start()
        stage.await_reason("missed", "Succeeded")
        assert operator.read("healthz") is not None
