"""A pod that goes: who works in it is asked, the pod waits, and not for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from tests.tools.waiting import wait_until

from loam_runtime.training.drain import (
    FOLDER_VARIABLE,
    Drain,
    await_handler,
    drain_pod,
    hold_pod,
)

LEADER = """
from loam_runtime.training.drain import lead_pod
import signal, sys, time
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    with lead_pod():
        print("leads", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_the_pod_waits_until_its_process_has_saved(tmp_path: Path, monkeypatch):
    """Without the wait the kubelet kills the training while its checkpoint is on the way."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    answers: list[bool] = []
    with hold_pod() as drain:
        assert not drain.is_asked()
        hook = threading.Thread(target=lambda: answers.append(drain_pod(tmp_path)))
        hook.start()
        wait_until(drain.is_asked, "the request", 30)
        assert not answers
        drain.acknowledge()
        hook.join(30)
        assert answers == [True]
        assert not drain.is_asked(), "one checkpoint is enough"


def test_the_leader_is_told_and_waited_for(tmp_path: Path):
    """The head must not end before what it leads: Ray ends with it."""
    environment = {**os.environ, FOLDER_VARIABLE: str(tmp_path)}
    leader = subprocess.Popen(
        [sys.executable, "-c", LEADER], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert leader.stdout is not None
    assert leader.stdout.readline() == "leads\n"
    reaper = threading.Thread(target=leader.wait)  # as the pod's first process does
    reaper.start()
    assert drain_pod(tmp_path, 30)
    reaper.join(30)
    assert leader.returncode == 130


def test_the_dead_and_the_hanging_do_not_hold_a_pod_for_ever(tmp_path: Path):
    """A process that was killed leaves its name; one that hangs would hold the node's drain."""
    killed = subprocess.Popen([sys.executable, "-c", "pass"])
    killed.wait()
    (tmp_path / f"work-{killed.pid}").touch()
    assert drain_pod(tmp_path, 5)
    (tmp_path / f"work-{os.getpid()}").touch()
    assert not drain_pod(tmp_path, 0.1)


def test_outside_of_a_cluster_nothing_is_asked(monkeypatch):
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with hold_pod() as drain:
        assert not drain.is_asked()
    Drain(None).acknowledge()


STARTING = """
import signal, sys
sys.stdin.readline()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("listens", flush=True)
sys.stdin.readline()
"""


def test_a_pod_that_has_just_begun_is_told_when_it_listens():
    """The first process of a container ignores a SIGTERM for which it has no handler yet: the pod
    of a replaced head would stay for two minutes, and hold up the next attempt."""
    starting = subprocess.Popen(
        [sys.executable, "-c", STARTING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starting.stdin is not None
    assert starting.stdout is not None
    try:
        assert not await_handler(starting.pid, most_seconds=0)
        starting.stdin.write("go\n")
        starting.stdin.flush()
        assert await_handler(starting.pid, most_seconds=30)
        assert starting.stdout.readline() == "listens\n"
    finally:
        starting.kill()
        starting.wait()
