"""Many jobs through their whole lives while something breaks, over and over, at random moments.

The test plays KubeRay and the pods. What must hold is read back from etcd, write by write: see
`tests/tools/life_rules.py`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
from tests.tools.control_plane import ControlPlane
from tests.tools.fleet import Fleet, disturb
from tests.tools.operator_process import OperatorProcess, Stage

NUM_EACH = 2
MOST_KILLS = 10
MOST_CRASHES = 3
# Between two kills: a time would be too short on a slow machine, where nothing would get done.
REQUESTS = "loam_operator_api_requests_total"
IDLE_SECONDS = 6


@pytest.mark.parametrize("seed", [1, 2])
def test_the_operator_is_killed_over_and_over(
    control_plane: ControlPlane, operator: OperatorProcess, stage: Stage, seed: int
):
    """Between any two requests of any pass: what was half done is found out from status and objects
    alone, and a job ends as it would have ended."""
    fleet = Fleet(stage, control_plane.etcd_url, num_each=3)
    fleet.apply()
    num_kills = 0

    def kill(chance: random.Random) -> Iterator[None]:
        nonlocal num_kills
        while num_kills < MOST_KILLS:
            most, started = chance.randint(-20, 80), time.monotonic()  # below 0: at its start
            while operator.count(REQUESTS) < most and time.monotonic() - started < IDLE_SECONDS:
                yield
            operator.kill()
            operator.start(is_awaited=False)
            num_kills += 1

    fleet.play(kill(random.Random(seed)))
    assert num_kills >= 3


def test_the_api_server_crashes_over_and_over(
    control_plane: ControlPlane, operator: OperatorProcess, stage: Stage
):
    """All requests and watches break at once, some after they were carried out, and the operator
    goes on without a restart."""
    fleet = Fleet(stage, control_plane.etcd_url, NUM_EACH)
    fleet.apply()

    pid, num_crashes = operator.pid, 0

    def crash(chance: random.Random) -> Iterator[None]:
        nonlocal num_crashes
        while num_crashes < MOST_CRASHES:
            due = time.monotonic() + chance.uniform(0.5, 3)
            while time.monotonic() < due:
                yield
            control_plane.kill_apiserver()
            control_plane.start_apiserver()
            num_crashes += 1

    fleet.play(crash(random.Random(3)))
    assert num_crashes >= 2
    assert operator.pid == pid
    assert operator.read("healthz") is not None


def test_others_write_all_jobs_all_the_time(
    control_plane: ControlPlane, operator: OperatorProcess, stage: Stage
):
    """GitOps tools and users touch jobs all the time, and each touch is a conflict with whatever
    the operator is about to write: no status is lost, none is overwritten, no job starves."""
    fleet = Fleet(stage, control_plane.etcd_url, NUM_EACH)
    fleet.apply()
    count = 0

    def touch(chance: random.Random) -> None:
        nonlocal count
        for name in fleet.names:
            count += 1
            marks = {chance.choice(("labels", "annotations")): {"count": str(count)}}
            spec = {"clusterTTLSeconds": 3600 + count}
            stage.change_job(name, {"metadata": marks, "spec": spec})

    with disturb(touch, 4, most_seconds=0.01):
        fleet.play()
    conflicts = operator.count('loam_operator_api_requests_total{method="PATCH",status="409"}')
    assert conflicts > 0
