"""What the operator counts of jobs, attempts and GPUs: a wrong figure here is a wrong bill."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from loam_api.progress_document import ProgressDocument
from loam_api.status import Attempt, FineTuneJobStatus
from loam_operator.accounts import count_launch, count_status
from loam_operator.gpu_time import GpuMeter, find_work
from loam_operator.history import end_attempt, start_attempt
from loam_operator.observed import JobView, Observed, PodView, RayJobView
from loam_operator.status import build_patch, enter_state
from loam_operator.views import view_pod

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
JOB = JobView("team", "job", "u", 1, "1", created_at=CREATED)


def read(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def hold(status: FineTuneJobStatus) -> JobView:
    return replace(JOB, status=build_patch({}, status))


def show(stage: str | None, **changes: Any) -> Observed:
    """A job whose first attempt holds two GPUs, and is at a stage."""
    status = enter_state(start_attempt(FineTuneJobStatus(), "run", CREATED), "Starting", CREATED)
    document = ProgressDocument.model_validate({"attempt": 1, "stage": stage}).to_json()
    job = replace(hold(status), spec=changes.pop("spec", {}))
    pod = PodView("p", "p", "worker", 1, phase="Running", gpus=2, has_node=True, job_uid=JOB.uid)
    ray_job = RayJobView("r", "r", "u", "run", 1)
    observed = Observed(job, (ray_job,), (pod,), {1: document} if stage else {})
    return replace(observed, **changes)


@pytest.mark.parametrize(
    ("stage", "work"),
    [
        (None, "starting"),
        ("split", "preparing"),
        ("synthesize", "generating"),
        ("train", "training"),
        ("evaluate", "evaluating"),
        ("publish", "publishing"),
    ],
)
def test_work_is_told_from_the_stage(stage: str | None, work: str):
    """An owner of GPUs acts on these words: a stage that is called training hides idle ones."""
    observed = show(stage)
    assert find_work(observed, observed.pods[0]) == work


def test_gpus_wait_for_a_remote_teacher_but_work_for_the_base_model():
    """The same stage: in one case other people's machines write, in the other these do."""
    spec = {"synthesis": {"teacher": {"kind": "openai"}}}
    observed = show("synthesize", spec=spec)
    assert find_work(observed, observed.pods[0]) == "awaiting_teacher"


def test_pods_that_outlive_their_attempt_are_ending():
    """They are what a drain or a lost node costs; as training they would look well used."""
    observed = show("train")
    late = replace(observed.pods[0], attempt=2)
    assert find_work(observed, late) == "ending"
    earlier = replace(observed.pods[0], job_uid="of-an-earlier-job")
    assert find_work(observed, earlier) == "ending"
    done = replace(observed.ray_jobs[0], deployment_status="Complete")
    assert find_work(replace(observed, ray_jobs=(done,)), observed.pods[0]) == "ending"


def test_new_pods_do_not_work_at_what_others_did():
    """A queue took those away whose word this is: GPUs that wait for an image are not training."""
    observed = show("train")
    again = replace(observed.ray_jobs[0], job_id="another")
    document = ProgressDocument(attempt=1, job_id="first", stage="train").to_json()
    observed = replace(observed, ray_jobs=(again,), progress={1: document})
    assert find_work(observed, observed.pods[0]) == "starting"


def test_gpu_seconds_add_up_between_two_looks():
    """Neither what nobody saw nor another operator's time may be counted, or two replicas would
    bill twice; and what is held without a node is held by nobody."""
    now = [100.0]
    meter = GpuMeter(lambda: now[0])
    labels = {"job_namespace": "team", "work": "starting"}
    before = read("loam_operator_gpu_held_seconds_total", **labels)
    meter.measure([show(None)])  # the first look
    now[0] += 5
    meter.measure([show(None)])
    now[0] += 100
    meter.pause()
    now[0] += 100
    meter.measure([show(None)])
    unplaced = show(None).pods[0]
    now[0] += 7
    meter.measure([show(None, pods=(replace(unplaced, has_node=False),))])
    assert read("loam_operator_gpu_held_seconds_total", **labels) - before == 2 * 5
    reason = {"job_namespace": "team", "reason": "starting"}
    assert read("loam_operator_gpu_idle_seconds_total", **reason) == 2 * 5
    assert read("loam_operator_gpus_held", **labels) == 0


def test_gpus_are_read_from_a_pods_limits():
    """A vendor that is not known would hold its devices for nothing, by our figures."""
    limits = {"cpu": "2", "amd.com/gpu": "4"}
    raw = {
        "metadata": {"name": "p", "uid": "u", "resourceVersion": "1"},
        "spec": {"nodeName": "n", "containers": [{"resources": {"limits": limits}}, {}]},
    }
    pod = view_pod(raw)
    assert (pod.gpus, pod.has_node) == (4, True)


def test_an_attempt_is_counted_once():
    """Its reason stays in status through every later write: counted there, one failure would look
    like many."""
    started = start_attempt(FineTuneJobStatus(), "run", CREATED)
    ended = enter_state(end_attempt(started, "HeadLost", CREATED), "Retrying", CREATED)
    later = enter_state(start_attempt(ended, "run", CREATED), "Starting", CREATED)
    before = read("loam_operator_attempts_ended_total", reason="HeadLost")
    for old, new in ((FineTuneJobStatus(), started), (started, ended), (ended, later)):
        count_status(hold(old), hold(new), CREATED)
    assert read("loam_operator_attempts_ended_total", reason="HeadLost") - before == 1


def test_only_the_first_start_is_timed():
    """A second attempt starts hours after the job was created: as a start it would look broken."""
    now = CREATED + timedelta(seconds=3)
    name = "loam_operator_start_seconds_count"
    rayjobs, trainings = read(name, until="rayjob"), read(name, until="training")
    count_launch(JOB, 1, now)
    count_launch(JOB, 2, now)
    first = FineTuneJobStatus(attempts=[Attempt(number=1, step="train")])
    second = FineTuneJobStatus(attempts=[*first.attempts, Attempt(number=2, step="train")])
    for status in (first, second):
        training = enter_state(status, "Training", CREATED)
        count_status(hold(status), hold(training), now)
    assert read(name, until="rayjob") - rayjobs == 1
    assert read(name, until="training") - trainings == 1
