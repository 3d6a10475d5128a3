"""What a Prometheus gets from the operator's process while jobs come, fail and hold GPUs."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from tests.tools.control_plane import ControlPlane
from tests.tools.operator_process import OperatorProcess, Stage, run_operator
from tests.tools.waiting import wait_until

# Of a job of two steps that meets no trouble: 6 objects, 2 RayJobs, 6 states (of which Preparing,
# Training and Finishing only show how far it is, and are throttled as progress is), and one renewal
# of the lease whose echo may still be on its way.
MOST_WRITES = 15
MOST_EVENTS = 6
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


def count_writes(operator: OperatorProcess) -> int:
    """All but the renewals of the lease, by what came back of them."""
    requests = "loam_operator_api_requests_total"
    wrote = sum(
        operator.count(f'{requests}{{method="{one}"') for one in ("POST", "PATCH", "DELETE")
    )
    return int(wrote - operator.count('loam_operator_watch_events_total{kind="leases"}'))


def list_events(stage: Stage) -> list[str]:
    """Their reasons."""
    return [one.reason for one in stage.core.list_namespaced_event(stage.namespace).items]


def test_a_job_costs_few_writes(control_plane: ControlPlane, namespace: str, tmp_path: Path):
    """A hundred teams' jobs share one API server: what a job costs it may not grow unseen."""
    stage = Stage(control_plane.client, namespace)
    settings = {"LOAM_NAMESPACES": namespace, "POD_NAMESPACE": namespace}
    with run_operator(control_plane.kubeconfig, tmp_path / "operator.log", **settings) as operator:
        before = count_writes(operator)
        stage.apply("usual")
        stage.await_ray_job("usual-prepare-a1")
        stage.set_ray_job("usual-prepare-a1", jobStatus="RUNNING", jobDeploymentStatus="Running")
        stage.await_reason("usual", "Preparing")
        stage.succeed("usual-prepare-a1", 1)
        stage.await_ray_job("usual-train-a2")
        stage.set_ray_job("usual-train-a2", jobStatus="RUNNING", jobDeploymentStatus="Running")
        for word, reason in (("train", "Training"), ("evaluate", "Finishing")):
            stage.say("usual-train-a2", 2, stage=word, summary=f"{word} 1 %")
            stage.await_reason("usual", reason)
        stage.publish("usual-train-a2", 2)
        stage.await_reason("usual", "Succeeded")
        # Events are written one after the other: with the last one, all are there.
        wait_until(lambda: "Succeeded" in list_events(stage), "the last event")
        writes, events = count_writes(operator) - before, len(list_events(stage))
        assert events <= MOST_EVENTS
        assert writes - events <= MOST_WRITES
