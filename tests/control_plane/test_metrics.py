"""What a Prometheus gets from the operator's process while jobs come, fail and hold GPUs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.tools.control_plane import ControlPlane
from tests.tools.history import History
from tests.tools.operator_process import (
    RUN_KEY,
    OperatorProcess,
    Stage,
    read_reason,
    run_operator,
)
from tests.tools.waiting import wait_until

from loam_operator.states import RUNNING

# What must be written of a job without trouble: 6 objects, the event of its end, and of each step
# a RayJob and the status before it, of the end one more. A person who looks at the rows is asked by
# a status and an event, and the answer is an event.
MOST_WRITES = {"usual": 12, "reviewed": 17}
REVIEWED = {"targetCount": 10, "teacher": {"kind": "self"}, "spotCheck": {"required": True}}
_OURS = "loam_operator_"
_ODD_UNITS = re.compile(r"milliseconds|_ms$|minutes|hours|_mb|_gb|percent")


def play_fleet(stage: Stage, operator: OperatorProcess) -> None:
    """One job fails, one succeeds, one trains on GPUs that have a node."""
    for name in ("bad", "good"):
        stage.apply(name)
        stage.await_ray_job(f"{name}-prepare-a1")
    stage.fail("bad-prepare-a1", 1, 10, "no such bucket")
    stage.publish("good-prepare-a1", 1)
    stage.await_reason("bad", "BadInput")
    stage.await_reason("good", "Succeeded")
    stage.apply("busy", compute={"worker": {"gpus": 1}})
    stage.await_ray_job("busy-prepare-a1")
    stage.succeed("busy-prepare-a1", 1)
    ray_job = stage.await_ray_job("busy-train-a2")
    stage.create_pod("busy-train-a2", ray_job, "worker", node="node-1")
    stage.set_ray_job("busy-train-a2", jobStatus="RUNNING", jobDeploymentStatus="Running")
    held = 'loam_operator_gpu_held_seconds_total{job_namespace="%s",work="%s"}'
    for work in ("starting", "training"):
        name = held % (stage.namespace, work)
        wait_until(lambda name=name: operator.count(name) > 0, f"GPUs held, {work}")
        stage.say("busy-train-a2", 2, stage="train", summary="train 1 %")
    stage.await_reason("busy", "Training")


def test_a_scrape_tells_what_happened(control_plane: ControlPlane, namespace: str, tmp_path: Path):
    """Dashboards and alerts are written against these names: one that is missing, or that counts
    something else, leaves a panel empty and an alert silent without anybody's notice."""
    stage = Stage(control_plane.client, namespace)
    settings = {"LOAM_NAMESPACES": namespace, "POD_NAMESPACE": namespace}
    with run_operator(control_plane.kubeconfig, tmp_path / "operator.log", **settings) as operator:
        play_fleet(stage, operator)
        text = str(operator.read("metrics"))
        for phase in ("Failed", "Succeeded", "Training"):
            jobs = f'loam_operator_jobs{{job_namespace="{namespace}",phase="{phase}"}}'
            assert operator.count(jobs) == 1, text
        assert operator.count('loam_operator_attempts_ended_total{reason="BadInput"}') == 1
        assert operator.count('loam_operator_start_seconds_count{until="rayjob"}') == 3
        assert operator.count('loam_operator_start_seconds_count{until="training"}') == 1
        assert operator.count('loam_operator_reconciles_total{outcome="error"}') == 0
        assert operator.count('loam_operator_api_requests_total{method="POST",status="201"}') > 10
        training = f'gpus_held{{job_namespace="{namespace}",work="training"}}'
        assert operator.count(f"loam_operator_{training}") == 1
        idle = f'gpu_idle_seconds_total{{job_namespace="{namespace}",reason="starting"}}'
        assert operator.count(f"loam_operator_{idle}") > 0
        assert 'reason="training"' not in text
    check_conventions(text)


def check_conventions(text: str) -> None:
    """Prefix, help, base units, `_total` on counters and nothing else, and few series."""
    ours = [one for one in text_string_to_metric_families(text) if one.name.startswith(_OURS)]
    assert len(ours) > 10
    for family in ours:
        assert family.documentation.endswith("."), family.name
        assert not _ODD_UNITS.search(family.name)
        names = {sample.name for sample in family.samples}
        assert not any(name.endswith("_created") for name in names)
        if family.type == "counter":
            assert {name.endswith("_total") for name in names} <= {True}
    assert sum(len(family.samples) for family in ours) < 200


def run_usual(stage: Stage, name: str) -> None:
    """Prepare and train."""
    stage.apply(name)
    run_step(stage, name, "prepare-a1", "Preparing")
    stage.succeed(f"{name}-prepare-a1", 1)
    run_step(stage, name, "train-a2", "Training")
    for word, reason in (("train", "Training"), ("evaluate", "Finishing")):
        stage.say(f"{name}-train-a2", 2, stage=word, summary=f"{word} 1 %")
        stage.await_reason(name, reason)
    stage.publish(f"{name}-train-a2", 2)


def run_reviewed(stage: Stage, name: str) -> None:
    """Prepare, generate, ask a person, and train."""
    stage.apply(name, synthesis=REVIEWED)
    run_step(stage, name, "prepare-a1", "Preparing")
    stage.succeed(f"{name}-prepare-a1", 1, run_key=RUN_KEY)
    run_step(stage, name, "generate-a2", "Preparing")
    stage.succeed(f"{name}-generate-a2", 2, run_key=RUN_KEY)
    stage.await_reason(name, "AwaitingReview")
    stage.change_job(name, {"metadata": {"annotations": {"loam.dev/review": "approved"}}})
    run_step(stage, name, "train-a3", "Preparing")  # where it finds the rows there
    stage.publish(f"{name}-train-a3", 3)


def run_step(stage: Stage, name: str, step: str, reason: str) -> None:
    stage.await_ray_job(f"{name}-{step}")
    stage.set_ray_job(f"{name}-{step}", jobStatus="RUNNING", jobDeploymentStatus="Running")
    stage.await_reason(name, reason)


def list_writes(history: History) -> list[str]:
    """The operator's, besides progress: what it created, and the states that it wrote."""
    writes, status = [], None
    for change in history.list_changes():
        if change.plural == "finetunejobs":
            assert change.body is not None
            before, status = status, change.body.get("status")
            if status != before and read_reason(change.body) not in RUNNING:
                writes.append(f"status {read_reason(change.body)}")
        elif change.is_new and change.plural != "leases":
            writes.append(f"{change.plural} {change.name}")
    return writes


@pytest.mark.parametrize(("name", "run"), [("usual", run_usual), ("reviewed", run_reviewed)])
def test_a_job_costs_few_writes(
    control_plane: ControlPlane,
    operator: OperatorProcess,
    stage: Stage,
    name: str,
    run: Callable[[Stage, str], None],
):
    """A hundred teams' jobs share one API server: what a job costs it may not grow unseen."""
    history = History(control_plane.etcd_url, stage.namespace)
    run(stage, name)
    stage.await_reason(name, "Succeeded")
    # Events are written one after the other: with the last one, all are there.
    wait_until(lambda: ("Normal", "Succeeded") in stage.list_events(name), "the last event")
    writes = list_writes(history)
    assert len(writes) == MOST_WRITES[name], writes
    refused = 'loam_operator_api_requests_total{method="POST",status="4'
    assert operator.count(refused) == 0
