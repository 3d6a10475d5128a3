"""`loam wait` and `loam retry` as processes, against the real API server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.tools.control_plane import ControlPlane
from tests.tools.operator_process import RUN_KEY, OperatorProcess, Stage
from tests.tools.waiting import wait_until

LOAM = [sys.executable, "-c", "from loam_runtime.cli import main; main()"]


def start_loam(control_plane: ControlPlane, stage: Stage, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*LOAM, *arguments, "-n", stage.namespace],
        env={"KUBECONFIG": str(control_plane.kubeconfig), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_loam(control_plane: ControlPlane, stage: Stage, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    process = start_loam(control_plane, stage, *arguments)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def test_wait_and_retry_follow_a_job(
    control_plane: ControlPlane, operator: OperatorProcess, stage: Stage
):
    """A pipeline that goes on after a failed job deploys nothing; one that cannot try again is
    run by hand. The whole way: fails, is tried again, succeeds."""
    stage.apply("way")
    first = stage.await_first_ray_job("way")
    waiting = start_loam(control_plane, stage, "wait", "way")
    assert waiting.stderr is not None
    assert "Starting" in waiting.stderr.readline()  # it has seen the job before it fails
    stage.fail(first, 1, 11, "Access to s3://bucket is refused.")
    _, told = waiting.communicate(timeout=600)
    assert waiting.returncode == 3
    assert "Access to s3://bucket is refused." in told
    assert "loam.dev/retry" in told
    code, out, _ = run_loam(control_plane, stage, "retry", "way", "--json")
    assert code == 0
    token = json.loads(out)["token"]
    second = first.removesuffix("1") + "2"
    stage.await_ray_job(second)
    assert stage.get_job("way")["status"]["retryTokens"] == [token]
    code, _, told = run_loam(control_plane, stage, "retry", "way")
    assert code == 10, "a running job is not tried again"
    assert "only a failed job" in told
    code, _, told = run_loam(control_plane, stage, "wait", "way", "--timeout", "0.1")
    assert code == 3
    assert "not over after 0.1 s" in told
    finish_steps(stage, "way", 2)
    code, out, _ = run_loam(control_plane, stage, "wait", "way", "--json")
    assert code == 0
    assert json.loads(out)["phase"] == "Succeeded"


def test_a_review_is_decided_by_command_and_by_annotation(
    control_plane: ControlPlane, operator: OperatorProcess, stage: Stage, tmp_path: Path
):
    """A person at a terminal and a pipeline in Git speak the same language; while they think,
    there is no RayJob that could hold a GPU."""
    teacher = {"baseURL": "https://teacher.example/v1", "model": "m"}
    synthesis = {
        "targetCount": 10,
        "teacher": {"kind": "openai", "openai": teacher},
        "spotCheck": {"required": True},
    }
    for name in ("by-hand", "by-git"):
        stage.apply(name, synthesis=synthesis)
        stage.await_ray_job(f"{name}-prepare-a1")
        stage.succeed(f"{name}-prepare-a1", 1, run_key=RUN_KEY)
        job = stage.await_reason(name, "AwaitingReview")
        assert job["status"]["phase"] == "AwaitingReview"
        assert f"runs/{RUN_KEY}/data/spot_check.csv" in job["status"]["conditions"][0]["message"]
        assert stage.find_ray_job(f"{name}-train-a2") is None
    file = tmp_path / "verdicts.csv"
    file.write_text("row id,verdict\nrow-a1,bad\nrow-b2,bad\nrow-c3,good\nrow-d4,\n")
    code, _, told = run_loam(
        control_plane, stage, "approve", "by-hand", "--verdicts", str(file), "--by", "anna"
    )
    assert code == 0, told
    stage.change_job("by-git", {"metadata": {"annotations": {"loam.dev/review": "approved"}}})
    environments = {}
    for name in ("by-hand", "by-git"):
        ray_job = stage.await_ray_job(f"{name}-train-a2")
        head = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
        variables = {one["name"]: one.get("value") for one in head["containers"][0]["env"]}
        environments[name] = json.loads(variables["LOAM_REVIEW"])
    assert environments["by-hand"]["rejected_rows"] == ["a1", "b2"]
    assert environments["by-hand"]["good_rows"] == ["c3"]
    assert environments["by-git"]["decision"] == "approved"
    review = stage.get_job("by-hand")["status"]["review"]
    assert (review["by"], review["runKey"]) == ("anna", RUN_KEY)
    wait_until(
        lambda: ("Normal", "Reviewed") in stage.list_events("by-hand"), "the event of the review"
    )
    code, _, told = run_loam(control_plane, stage, "approve", "by-hand")
    assert code == 10
    assert "does not wait for a review" in told


def finish_steps(stage: Stage, job: str, attempt: int) -> None:
    """Let every attempt from this one on succeed, whatever steps the job has."""

    def advance() -> bool:
        nonlocal attempt
        status: dict[str, Any] = stage.get_job(job)["status"]
        names = [one["metadata"]["name"] for one in stage.list_ray_jobs()]
        for name in names:
            if name.startswith(f"{job}-") and name.endswith(f"-a{attempt}"):
                stage.succeed(name, attempt)
                attempt += 1
        return status["phase"] == "Succeeded"

    wait_until(advance, f"{job} to succeed")


def test_errors_name_the_way_out(control_plane: ControlPlane, stage: Stage):
    """A misspelt name or namespace is the commonest mistake; "404" does not say which."""
    code, out, told = run_loam(control_plane, stage, "wait", "nobody")
    assert (code, out) == (10, "")
    assert f"no FineTuneJob nobody in namespace {stage.namespace}" in told
    assert "What to do:" in told
    stage.apply("fresh")
    code, _, told = run_loam(control_plane, stage, "logs", "fresh")
    assert code == 10
    assert "no pod with a log" in told


def test_the_kept_lines_are_printed_when_the_pods_are_gone(
    control_plane: ControlPlane, stage: Stage
):
    """The first question after a failure is what the log says, and the cluster is gone by then."""
    stage.apply("gone")
    text = "--- submitter gone-a1\nKeyError: 'loss'"
    stage.keep_log("gone", 1, text)
    code, out, _ = run_loam(control_plane, stage, "logs", "gone")
    assert (code, out) == (0, f"{text}\n")
