"""An attempt in a cluster: begun by one head pod, and what it tells the operator."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loam_api.exits import ExitCode
from loam_api.finetunejob import FineTuneJob
from loam_api.validation import validate_manifest
from loam_runtime.attempt import Attempt, claim_attempt, describe_failure, read_attempt
from loam_runtime.errors import BudgetError, FencedError, LoamError, RunTakenError

ATTEMPT = Attempt(
    "train", 1, "0123456789abcdef", "job-uid", "head-1", "raysubmit_a", "team/job-progress", 1
)
ENVIRONMENT = {
    "LOAM_STEP": "train",
    "LOAM_ATTEMPT": "3",
    "LOAM_RUN_KEY": "0123456789abcdef",
    "LOAM_JOB_UID": "job-uid",
    "LOAM_POD_UID": "head-1",
    "LOAM_PROGRESS": "team/job-progress",
    "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"metadata": {"job_submission_id": "raysubmit_a"}}),
}


def build_job(folder: Path, **blocks: Any) -> FineTuneJob:
    spec = {
        "model": {"uri": "s3://bucket/model"},
        "data": {"task": "text", "seeds": {"uri": "s3://bucket/seeds"}},
        "output": {"uri": f"file://{folder}"},
        **blocks,
    }
    return validate_manifest(
        {
            "apiVersion": "loam.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "job"},
            "spec": spec,
        }
    )


@pytest.fixture
def job(tmp_path: Path) -> FineTuneJob:
    return build_job(tmp_path)


def test_a_second_head_stops_at_the_claim(job):
    """KubeRay submits an attempt again after it has replaced its head: two trainings of one
    attempt would pass the operator's fence together."""
    claim_attempt(job, ATTEMPT)
    with pytest.raises(FencedError, match="another head pod"):
        claim_attempt(job, replace(ATTEMPT, pod_uid="head-2"))


def test_the_same_head_may_claim_twice(job):
    """A claim whose answer was lost is made again."""
    claim_attempt(job, ATTEMPT)
    claim_attempt(job, ATTEMPT)


@pytest.mark.parametrize(
    "other", [{"number": 2}, {"ray_job_id": "raysubmit_b"}, {"job_uid": "other"}]
)
def test_claims_of_other_attempts_are_apart(job, other):
    """A retry, an admission after preemption and a job created anew all begin with a new head."""
    claim_attempt(job, ATTEMPT)
    claim_attempt(job, replace(ATTEMPT, pod_uid="head-2", **other))


def test_another_jobs_run_is_told_and_ones_own_successor_is_not_talked_over(job):
    """A job that makes what a deleted one was making is shut out by the lock that this one left:
    without a word, its owner sees an unknown failure."""
    taken = describe_failure(
        RunTakenError("Attempt 1 of team/old writes.", remedy="Wait."), job.spec
    )
    assert taken is not None
    assert taken.exit_code == ExitCode.RUN_TAKEN
    assert "team/old" in taken.message
    assert "Wait." in taken.message
    assert describe_failure(FencedError("A later head works."), job.spec) is None


def test_what_was_spent_in_vain_is_told(job, tmp_path):
    """A job that ends with its budget spent is the one whose owner asks first what it has cost. The
    error may have come from a worker's process."""
    error = BudgetError("Spent.")
    error.note_spending({"spent_cost": 1.234, "spent_requests": 7, "spent_tokens": 4200})
    error = pickle.loads(pickle.dumps(error))
    prices = {"prompt": 1.0, "completion": 2.0}
    for given, told in ({}, "1.23 USD"), ({"prices": prices}, "1.23"):
        remote = {"baseURL": "https://teacher.example/v1", "model": "m", **given}
        teacher = {"kind": "openai", "openai": remote}
        spec = build_job(tmp_path, synthesis={"targetCount": 5, "teacher": teacher}).spec
        failure = describe_failure(error, spec)
        assert failure is not None
        assert failure.cost == told
        assert (failure.teacher_requests, failure.teacher_tokens) == (7, 4200)
    unknown = describe_failure(BudgetError("Spent."), job.spec)
    assert unknown is not None
    assert (unknown.cost, unknown.teacher_requests) == ("", 0)


def test_attempt_is_read_from_the_environment():
    attempt = read_attempt(ENVIRONMENT)
    assert attempt == Attempt(
        "train", 3, "0123456789abcdef", "job-uid", "head-1", "raysubmit_a", "team/job-progress", 1
    )


@pytest.mark.parametrize("missing", ["LOAM_ATTEMPT", "LOAM_JOB_UID", "LOAM_PROGRESS"])
def test_outside_of_a_cluster_is_said(missing):
    """`loam step` by hand must not look like a crash."""
    environment = {name: value for name, value in ENVIRONMENT.items() if name != missing}
    with pytest.raises(LoamError, match="loam run"):
        read_attempt(environment)
