"""The operator as a process against a real API server; the test plays KubeRay and the pods."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from tests.tools.control_plane import ControlPlane
from tests.tools.operator_process import (
    RUN_KEY,
    OperatorProcess,
    Stage,
    read_conditions,
    read_reason,
    run_operator,
)
from tests.tools.waiting import wait_until

from loam_api.progress_document import ResultDocument
from loam_operator.lease import LEASE_SECONDS
from loam_runtime.observability.config_map import ConfigMapProgress, ConfigMapWriter
from loam_runtime.observability.progress import PlainProgress


def list_reasons(job: dict[str, Any]) -> list[str]:
    return [attempt["reason"] for attempt in job["status"]["attempts"]]


# --- the way of a job --------------------------------------------------------------------------
def test_a_job_succeeds(operator: OperatorProcess, stage: Stage):
    """Apply, watch it go through its phases, and end with conditions that kstatus, kubectl wait
    and batch/v1's readers understand."""
    stage.apply("good")
    stage.await_ray_job("good-prepare-a1")
    stage.set_ray_job("good-prepare-a1", jobStatus="RUNNING", jobDeploymentStatus="Running")
    stage.await_reason("good", "Preparing")
    stage.succeed("good-prepare-a1", 1, run_key=RUN_KEY, worker_memory_bytes=5 * 2**30)
    ray_job = stage.await_ray_job("good-train-a2")
    (worker,) = ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = worker["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == "5120Mi"
    stage.set_ray_job("good-train-a2", jobStatus="RUNNING", jobDeploymentStatus="Running")
    stage.say("good-train-a2", 2, stage="train", summary="train 62 %")
    assert stage.await_reason("good", "Training")["status"]["phase"] == "Training"
    stage.publish("good-train-a2", 2)
    job = stage.await_reason("good", "Succeeded")
    conditions = read_conditions(job)
    assert [conditions[kind] for kind in ("Ready", "Complete", "Published")] == ["True"] * 3
    assert [conditions[kind] for kind in ("Reconciling", "Stalled", "Failed")] == ["False"] * 3
    assert job["status"]["observedGeneration"] == job["metadata"]["generation"]
    assert job["status"]["method"] == "lora"
    assert job["status"]["runKey"] == RUN_KEY
    assert list_reasons(job) == ["Succeeded", "Succeeded"]
    assert 'phase="Succeeded"} 1.0' in str(operator.read("metrics"))
    assert operator.count('loam_operator_watch_events_total{kind="leases"}') > 0  # its pulse


def test_a_job_fails_with_its_remedy(operator: OperatorProcess, stage: Stage):
    """What no retry heals ends at once, with the runtime's words and what to do."""
    stage.apply("poor")
    stage.await_ray_job("poor-prepare-a1")
    stage.fail("poor-prepare-a1", 1, 11, "Access to s3://bucket is refused.")
    job = stage.await_reason("poor", "BadCredentials")
    conditions = {one["type"]: one for one in job["status"]["conditions"]}
    assert (conditions["Failed"]["status"], conditions["Stalled"]["status"]) == ("True", "True")
    assert "Access to s3://bucket is refused." in conditions["Ready"]["message"]
    assert "loam.dev/retry" in conditions["Ready"]["message"]
    assert [one["metadata"]["name"] for one in stage.list_ray_jobs()] == ["poor-prepare-a1"]


def test_what_a_job_has_cost_is_printed(operator: OperatorProcess, stage: Stage):
    """From the head pod's last word to `kubectl get -o wide`: one field that is called otherwise
    on the way, and the column stays empty without anybody's notice."""
    stage.apply("costly")
    stage.await_ray_job("costly-prepare-a1")
    used = {"teacher_requests": 7, "teacher_tokens": 4200, "cost": "1.20 USD"}
    stage.fail("costly-prepare-a1", 1, 13, "synthesis.budget is spent.", **used)
    job = stage.await_reason("costly", "BudgetSpent")
    assert job["status"]["cost"] == "1.20 USD"
    usage = job["status"]["usage"]
    assert (usage["teacherRequests"], usage["teacherTokens"]) == (7, 4200)
    assert usage["teacherCost"] == "1.20 USD"
    assert stage.read_row("costly")["Cost"] == "1.20 USD"


def test_from_apply_to_ray_job_is_under_a_second(operator: OperatorProcess, stage: Stage):
    """A user who sees nothing happen applies again. The best of a few, for a busy machine."""
    seconds = []
    for index in range(4):
        started = time.monotonic()
        stage.apply(f"quick-{index}")
        stage.await_ray_job(f"quick-{index}-prepare-a1")
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 1.0


def test_a_job_that_cannot_run_here_is_refused(operator: OperatorProcess, stage: Stage):
    """A laptop's path in a pod is an empty folder: said at once, before a GPU is asked for."""
    stage.apply("local", model={"uri": "file://./model"})
    job = stage.await_reason("local", "InvalidSpec")
    assert "spec.model.uri" in job["status"]["conditions"][0]["message"]
    assert not stage.list_ray_jobs()


def test_events_tell_the_story_once(operator: OperatorProcess, stage: Stage):
    """`kubectl describe` is where people look; a list that fills itself hides what matters."""
    stage.apply("story")
    name = stage.await_first_ray_job("story")
    stage.fail(name, 1, 1, "The store is away.")
    stage.await_reason("story", "Retrying", "Starting")
    second = name.removesuffix("1") + "2"
    stage.await_ray_job(second)
    stage.fail(second, 2, 11, "Access is refused.")
    stage.await_reason("story", "BadCredentials")
    told = [
        ("Warning", "Unknown"),
        ("Normal", "Starting"),
        ("Warning", "BadCredentials"),
    ]
    wait_until(lambda: stage.list_events("story") == told, "the events")
    operator.kill()
    operator.start()
    passes = operator.count("loam_operator_reconciles_total")
    stage.change_job("story", {"metadata": {"labels": {"a": "b"}}})
    wait_until(lambda: operator.count("loam_operator_reconciles_total") > passes, "another pass")
    assert stage.list_events("story") == told


# --- attempts ----------------------------------------------------------------------------------
def test_a_retry_by_hand_counts_once(operator: OperatorProcess, stage: Stage):
    """The annotation stays on the object for ever, so that each value may act only once."""
    stage.apply("again")
    stage.await_ray_job("again-prepare-a1")
    stage.fail("again-prepare-a1", 1, 10, "No rows.")
    stage.await_reason("again", "BadInput")
    stage.change_job("again", {"metadata": {"annotations": {"loam.dev/retry": "one"}}})
    stage.await_ray_job("again-prepare-a2")
    stage.fail("again-prepare-a2", 2, 10, "Still no rows.")
    job = stage.await_reason("again", "BadInput")
    assert job["status"]["retryTokens"] == ["one"]
    operator.kill()
    operator.start()
    assert read_reason(stage.get_job("again")) == "BadInput"
    assert stage.find_ray_job("again-prepare-a3") is None


def test_suspend_gives_the_pods_back_and_resume_is_free(operator: OperatorProcess, stage: Stage):
    """A pause must not eat into backoffLimit, and no RayJob may outlive it."""
    stage.apply("pause", backoffLimit=0)
    stage.await_ray_job("pause-prepare-a1")
    stage.change_job("pause", {"spec": {"suspend": True}})
    job = stage.await_reason("pause", "Suspended")
    assert read_conditions(job)["Suspended"] == "True"
    wait_until(lambda: not stage.list_ray_jobs(), "the end of the RayJob that is being deleted")
    stage.change_job("pause", {"spec": {"suspend": False}})
    stage.await_ray_job("pause-prepare-a2")
    stage.publish("pause-prepare-a2", 2)
    assert list_reasons(stage.await_reason("pause", "Succeeded")) == ["Suspended", "Succeeded"]


def test_a_lost_head_is_a_new_attempt(operator: OperatorProcess, stage: Stage):
    """KubeRay makes another head, which knows nothing of the job: the attempt is over, uncharged,
    and the next one waits until the pods of this one are gone."""
    stage.apply("headless", backoffLimit=0)
    stage.await_ray_job("headless-prepare-a1")
    stage.succeed("headless-prepare-a1", 1, run_key=RUN_KEY)
    ray_job = stage.await_ray_job("headless-train-a2")
    head = stage.create_pod("headless-train-a2", ray_job, "head")
    stage.set_ray_job("headless-train-a2", jobStatus="RUNNING", jobDeploymentStatus="Running")
    stage.await_reason("headless", "Training")
    wait_until(
        lambda: stage.get_job("headless")["status"]["attempts"][1]["headUid"] == head,
        "the head pod to be noted",
    )
    worker = stage.create_pod("headless-train-a2", ray_job, "worker")
    stage.delete_pod("headless-train-a2-head")
    stage.await_ray_job("headless-train-a3")
    assert stage.find_ray_job("headless-train-a2") is None
    assert worker not in stage.list_pod_uids()
    stage.publish("headless-train-a3", 3)
    job = stage.await_reason("headless", "Succeeded")
    assert list_reasons(job) == ["Succeeded", "HeadLost", "Succeeded"]


def test_success_needs_a_valid_result(operator: OperatorProcess, stage: Stage):
    """Whatever runs in the head pod can write there: rubbish, however large, is no result."""
    stage.apply("claims")
    stage.await_ray_job("claims-prepare-a1")
    stage.write_progress("claims-prepare-a1", 1, '{"attempt": 1, ' * 5000)
    stage.set_ray_job("claims-prepare-a1", jobStatus="SUCCEEDED", jobDeploymentStatus="Complete")
    job = stage.await_reason("claims", "Retrying")
    assert list_reasons(job) == ["NoResult"]


# --- whose objects -----------------------------------------------------------------------------
CHILDREN = (
    ("ConfigMap", "manifest"),
    ("ConfigMap", "progress"),
    ("ServiceAccount", "runtime"),
    ("Role", "runtime"),
    ("RoleBinding", "runtime"),
    ("NetworkPolicy", "runtime"),
    ("RayJob", "prepare-a1"),
)


def test_an_object_in_the_way_is_named(operator: OperatorProcess, stage: Stage):
    """Adopting an object that somebody else made would run their code, or give their rights, as the
    job's; one that nobody is told of would hold the job for ever."""
    taken = {f"{kind}-{end}".lower(): (kind, end) for kind, end in CHILDREN}
    for name, (kind, end) in taken.items():
        stage.create_foreign(kind, f"{name}-{end}")
        stage.apply(name)
    for name, (kind, end) in taken.items():
        job = stage.await_reason(name, "NameConflict")
        assert read_conditions(job)["Stalled"] == "True"
        message = job["status"]["conditions"][0]["message"]
        assert message.startswith(f"{kind} {name}-{end} is in the way")
        assert kind == "RayJob" or stage.find_ray_job(f"{name}-prepare-a1") is None
    for name, (kind, end) in taken.items():
        stage.delete_foreign(kind, f"{name}-{end}")
    for name in taken:
        stage.await_reason(name, "Starting")
        assert f"RayJob {name}-prepare-a1" in stage.list_children(name)


def test_a_later_attempts_name_is_taken(operator: OperatorProcess, stage: Stage):
    """The second step's RayJob is made when the first one's is long there: who has the name may not
    be taken for it, nor may the job be tried again as if its pods had failed."""
    stage.apply("later")
    stage.await_ray_job("later-prepare-a1")
    stage.create_foreign("RayJob", "later-train-a2")
    stage.succeed("later-prepare-a1", 1)
    job = stage.await_reason("later", "NameConflict")
    assert "RayJob later-train-a2" in job["status"]["conditions"][0]["message"]
    stage.delete_foreign("RayJob", "later-train-a2")
    stage.await_reason("later", "Starting")
    stage.publish("later-train-a2", 2)
    assert list_reasons(stage.await_reason("later", "Succeeded")) == ["Succeeded", "Succeeded"]


def test_children_go_with_the_job(operator: OperatorProcess, stage: Stage):
    """No finalizer: a job can be deleted whether or not the operator runs."""
    stage.apply("gone")
    stage.await_ray_job("gone-prepare-a1")
    assert "finalizers" not in stage.get_job("gone")["metadata"]
    operator.kill()
    stage.delete_job("gone")
    wait_until(lambda: not stage.list_children("gone"), "children to be collected")


def test_a_finished_job_is_cleaned_up_and_stays(operator: OperatorProcess, stage: Stage):
    """What it created goes after clusterTTLSeconds; the job itself would be trained anew by
    whoever applies it from git."""
    stage.apply("tidy", clusterTTLSeconds=0)
    stage.await_ray_job("tidy-prepare-a1")
    stage.publish("tidy-prepare-a1", 1)
    stage.await_reason("tidy", "Succeeded")
    wait_until(lambda: not stage.list_children("tidy"), "children to be deleted")
    operator.kill()
    operator.start()
    assert read_reason(stage.get_job("tidy")) == "Succeeded"
    assert not stage.list_children("tidy")


def test_the_head_may_write_its_progress_and_nothing_else(
    control_plane: ControlPlane, operator: OperatorProcess, stage: Stage
):
    """The pods run what models and data sets bring along; their token must be worth nothing."""
    stage.apply("meek")
    stage.await_ray_job("meek-prepare-a1")
    kubeconfig = control_plane.create_kubeconfig(stage.namespace, "meek-runtime")
    with config.new_client_from_config(str(kubeconfig)) as poor:
        core = client.CoreV1Api(poor)
        core.patch_namespaced_config_map("meek-progress", stage.namespace, {"data": {"a": "b"}})
        for forbidden in (
            lambda: core.read_namespaced_config_map("meek-progress", stage.namespace),
            lambda: core.patch_namespaced_config_map("meek-manifest", stage.namespace, {}),
            lambda: core.list_namespaced_secret(stage.namespace),
            lambda: core.list_namespaced_pod(stage.namespace),
        ):
            with pytest.raises(ApiException, match="Forbidden"):
                forbidden()


def test_the_runtime_is_heard(
    control_plane: ControlPlane, operator: OperatorProcess, stage: Stage, tmp_path: Path
):
    """Both ends of the progress, with the head pod's own token: what one writes the other shows."""
    stage.apply("told")
    stage.await_ray_job("told-prepare-a1")
    stage.set_ray_job("told-prepare-a1", jobStatus="RUNNING", jobDeploymentStatus="Running")
    kubeconfig = control_plane.create_kubeconfig(stage.namespace, "told-runtime")
    user = json.loads(kubeconfig.read_text())["users"][0]["user"]
    (tmp_path / "token").write_text(user["token"])
    (tmp_path / "ca.crt").write_bytes(control_plane.authority.certificate.read_bytes())
    writer = ConfigMapWriter(control_plane.url, f"{stage.namespace}/told-progress", tmp_path)
    progress = ConfigMapProgress(PlainProgress(("train",)), writer.write, attempt=1)
    progress.start_stage("split")
    wait_until(
        lambda: stage.get_job("told")["status"].get("progress"), "the operator to show progress"
    )
    progress.finish(ResultDocument(exit_code=15, message="The loss is NaN."))
    stage.fail_ray_job("told-prepare-a1")
    job = stage.await_reason("told", "Diverged")
    assert "The loss is NaN." in job["status"]["conditions"][0]["message"]
    assert job["status"]["attempts"][0]["exitCode"] == 15


# --- trouble -----------------------------------------------------------------------------------
def test_nothing_changes_without_a_cause(operator: OperatorProcess, stage: Stage):
    """A write on every event feeds itself, and a thousand jobs would drown the API server."""
    stage.apply("calm")
    stage.await_ray_job("calm-prepare-a1")
    stage.set_ray_job("calm-prepare-a1", jobStatus="RUNNING", jobDeploymentStatus="Running")
    stage.await_reason("calm", "Preparing")
    stage.apply("done")
    stage.await_ray_job("done-prepare-a1")
    stage.publish("done-prepare-a1", 1)
    stage.await_reason("done", "Succeeded")
    before = {name: stage.get_job(name)["metadata"]["resourceVersion"] for name in ("calm", "done")}
    operator.kill()
    operator.start()
    passes = operator.count("loam_operator_reconciles_total")
    for _ in range(5):  # events that say nothing new
        stage.set_ray_job("calm-prepare-a1", rayClusterName=f"c{random.random()}")
    wait_until(lambda: operator.count("loam_operator_reconciles_total") > passes, "another pass")
    after = {name: stage.get_job(name)["metadata"]["resourceVersion"] for name in before}
    assert after == before


def test_a_second_operator_waits_and_takes_over(
    control_plane: ControlPlane, operator: OperatorProcess, stage: Stage, tmp_path: Path
):
    """Two that write would create and delete against each other."""
    second = OperatorProcess(
        control_plane.kubeconfig,
        tmp_path / "second.log",
        LOAM_NAMESPACES=stage.namespace,
        POD_NAMESPACE=stage.namespace,
        POD_NAME="second",
    )
    try:
        second.start(is_awaited=False)
        wait_until(lambda: second.read("healthz"), "the second operator to run")
        stage.apply("shared")
        stage.await_ray_job("shared-prepare-a1")
        assert second.read("readyz") is None
        assert second.count("loam_operator_transitions_total") == 0
        operator.kill()
        wait_until(lambda: second.read("readyz") is not None, "the second one to take over")
        stage.publish("shared-prepare-a1", 1)
        stage.await_reason("shared", "Succeeded")
    finally:
        second.kill()


def test_a_stopped_operator_hands_over_at_once(
    control_plane: ControlPlane, operator: OperatorProcess, stage: Stage, tmp_path: Path
):
    """An upgrade that waits for a lease to expire would be seen by every user."""
    settings = {"LOAM_NAMESPACES": stage.namespace, "POD_NAMESPACE": stage.namespace}
    assert operator.stop() == 0
    started = time.monotonic()
    log = tmp_path / "next.log"
    with run_operator(control_plane.kubeconfig, log, POD_NAME="operator-1", **settings):
        assert time.monotonic() - started < LEASE_SECONDS
        stage.apply("next")
        stage.await_ray_job("next-prepare-a1")
