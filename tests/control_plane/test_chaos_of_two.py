"""Two operators, of which the one that leads is killed or frozen, over and over."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tools.audit import count_holders, list_intruders, read_writes
from tests.tools.control_plane import ControlPlane
from tests.tools.fleet import Fleet
from tests.tools.operator_process import OperatorProcess, Stage
from tests.tools.waiting import wait_until

NAMES = ("left", "right")
MOST_TAKE_OVERS = 5
# The real ones are 15, 10 and 4 s; whether they are kept does not depend on how long they are.
SHORT = """
import sys
from loam_operator import lease, main
lease.LEASE_SECONDS, lease._HELD_SECONDS, lease.RENEW_SECONDS = 4, 2.5, 1.0
sys.exit(main.main())
"""


@pytest.fixture
def pair(
    control_plane: ControlPlane, stage: Stage, tmp_path: Path
) -> Iterator[list[OperatorProcess]]:
    """Two operators of one namespace, each with a user's name of its own."""
    operators = [
        OperatorProcess(
            control_plane.create_admin(f"{name}-{stage.namespace}"),
            tmp_path / f"{name}.log",
            program=SHORT,
            LOAM_NAMESPACES=stage.namespace,
            POD_NAMESPACE=stage.namespace,
            POD_NAME=name,
        )
        for name in NAMES
    ]
    try:
        for operator in operators:
            operator.start(is_awaited=False)
        yield operators
    finally:
        for operator in operators:
            operator.kill()


def find_leader(pair: list[OperatorProcess]) -> OperatorProcess:
    def look() -> OperatorProcess | None:
        return next((one for one in pair if one.read("readyz") is not None), None)

    found = wait_until(look, "an operator to lead")
    assert found is not None
    return found


def test_who_has_lost_the_lease_writes_no_more(
    control_plane: ControlPlane, pair: list[OperatorProcess], stage: Stage
):
    """A process that is stopped in the middle of a pass, by a debugger, a full disk or a virtual
    machine that moves, goes on where it was: for it no time has passed, and another one leads. What
    it would still create or delete, nobody would expect."""
    fleet = Fleet(stage, control_plane.etcd_url, num_each=2)

    fleet.apply()

    def take_over(chance: random.Random) -> Iterator[None]:
        for _ in range(MOST_TAKE_OVERS):
            due = time.monotonic() + chance.uniform(0, 0.5)
            while time.monotonic() < due:
                yield
            leader = find_leader(pair)
            (other,) = (one for one in pair if one is not leader)
            is_killed = chance.random() < 0.3
            if is_killed:
                leader.kill()
            else:
                os.kill(leader.pid, signal.SIGSTOP)
            while other.read("readyz") is None:
                yield
            if is_killed:
                leader.start(is_awaited=False)
            else:
                os.kill(leader.pid, signal.SIGCONT)

    fleet.play(take_over(random.Random(5)))
    writes = read_writes(control_plane.audit_log, stage.namespace)
    assert count_holders(writes) >= 3
    assert not list_intruders(writes)
