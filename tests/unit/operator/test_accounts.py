"""What the operator counts of jobs, attempts and GPUs: a wrong figure here is a wrong bill."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from loam_api.finetunejob import FineTuneJobSpec
from loam_api.finetuneprofile import FineTuneProfileSpec
from loam_api.progress_document import ProgressDocument
from loam_api.status import Attempt, FineTuneJobStatus
from loam_operator.accounts import count_launch, count_status
from loam_operator.decision import Launch
from loam_operator.gpu_time import _WORK_BY_STAGE, IDLE, GpuMeter, _find_ray_job, find_work
from loam_operator.history import end_attempt, start_attempt
from loam_operator.observed import JobView, Observed, PodView, RayJobView
from loam_operator.profiles import Profile, write_copy
from loam_operator.rayjob import build_ray_job
from loam_operator.settings import Settings
from loam_operator.status import build_patch, enter_state, read_status
from loam_operator.steps import count_gpus, list_steps
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
    pod = PodView(
        "p", "p", "worker", 1, phase="Running", gpus=2, node_since=CREATED, job_uid=JOB.uid
    )
    ray_job = RayJobView("r", "r", "u", "run", 1)
    observed = Observed(job, (ray_job,), (pod,), {1: document} if stage else {})
    return replace(observed, **changes)


def tell_work(observed: Observed, pod: PodView | None = None) -> str:
    """Of the job's first pod, or of another one."""
    ray_job = _find_ray_job(observed, read_status(observed.job.status))
    return find_work(observed, ray_job, pod or observed.pods[0])


@pytest.mark.parametrize(
    ("stage", "work"),
    [
        (None, "starting"),
        ("split", "preparing"),
        ("synthesize", "generating"),
        ("download", "downloading"),
        ("train", "training"),
        ("evaluate", "evaluating"),
        ("judge", "awaiting_judge"),
        ("publish", "publishing"),
    ],
)
def test_work_is_told_from_the_stage(stage: str | None, work: str):
    """An owner of GPUs acts on these words: a stage that is called training hides idle ones."""
    observed = show(stage)
    assert tell_work(observed) == work


def test_gpus_wait_for_a_remote_teacher_but_work_for_the_base_model():
    """The same stage: in one case other people's machines write, in the other these do."""
    spec = {"synthesis": {"teacher": {"kind": "openai"}}}
    observed = show("synthesize", spec=spec)
    assert tell_work(observed) == "awaiting_teacher"


def test_pods_that_outlive_their_attempt_are_ending():
    """They are what a drain or a lost node costs; as training they would look well used."""
    observed = show("train")
    late = replace(observed.pods[0], attempt=2)
    assert tell_work(observed, late) == "ending"
    earlier = replace(observed.pods[0], job_uid="of-an-earlier-job")
    assert tell_work(observed, earlier) == "ending"
    done = replace(observed.ray_jobs[0], deployment_status="Complete")
    assert tell_work(replace(observed, ray_jobs=(done,))) == "ending"


def test_new_pods_do_not_work_at_what_others_did():
    """A queue took those away whose word this is: GPUs that wait for an image are not training."""
    observed = show("train")
    again = replace(observed.ray_jobs[0], job_id="another")
    document = ProgressDocument(attempt=1, job_id="first", stage="train").to_json()
    observed = replace(observed, ray_jobs=(again,), progress={1: document})
    assert tell_work(observed) == "starting"


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
    meter.measure([show(None, pods=(replace(unplaced, node_since=None),))])
    assert read("loam_operator_gpu_held_seconds_total", **labels) - before == 2 * 5
    reason = {"job_namespace": "team", "reason": "starting"}
    assert read("loam_operator_gpu_idle_seconds_total", **reason) == 2 * 5
    assert read("loam_operator_gpus_held", **labels) == 0


@pytest.mark.parametrize(
    ("annotations", "gpus"),
    [
        ({"loam.dev/gpu-resource": "nvidia.com/mig-1g.5gb"}, 4),
        ({"loam.dev/gpu-resource": "amd.com/gpu"}, 0),
        ({}, 1),  # of an operator that knew no other
    ],
)
def test_gpus_are_read_from_a_pods_limits(annotations: dict[str, str], gpus: int):
    """Slices of GPUs that are not known as such would be held for nothing, by our figures; and
    what a webhook adds to a pod, a network card say, is none."""
    limits = {"cpu": "2", "nvidia.com/mig-1g.5gb": "4", "nvidia.com/gpu": "1", "rdma/hca": "1"}
    metadata = {"name": "p", "uid": "u", "resourceVersion": "1", "annotations": annotations}
    raw = {
        "metadata": metadata,
        "spec": {"nodeName": "n", "containers": [{"resources": {"limits": limits}}, {}]},
    }
    assert view_pod(raw).gpus == gpus


def test_a_gpu_is_held_from_the_moment_that_its_pod_has_a_node():
    """A pod waits for a node for hours at times: nobody is to pay for that."""
    placed = {
        "type": "PodScheduled",
        "status": "True",
        "lastTransitionTime": "2026-01-01T00:00:40Z",
    }
    metadata = {"name": "p", "uid": "u", "resourceVersion": "1"}
    metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"
    raw = {"metadata": metadata, "spec": {"nodeName": "n"}, "status": {"conditions": [placed]}}
    assert view_pod(raw).node_since == CREATED + timedelta(seconds=40)
    raw["status"] = {}  # bound by hand
    assert view_pod(raw).node_since == CREATED
    raw["spec"] = {}
    assert view_pod(raw).node_since is None


class Meter:
    """A meter, and what it adds to the counters of the namespace."""

    def __init__(self) -> None:
        self.now = 100.0
        self.meter = GpuMeter(lambda: self.now)
        self.before = {work: self.read(work) for work in _WORK_BY_STAGE.values()}
        self.before |= {work: self.read(work) for work in IDLE}

    def read(self, work: str) -> tuple[float, float]:
        held = read("loam_operator_gpu_held_seconds_total", job_namespace="team", work=work)
        idle = read("loam_operator_gpu_idle_seconds_total", job_namespace="team", reason=work)
        return held, idle

    def look(self, observed: Observed, seconds: float = 10.0) -> dict[str, tuple[float, float]]:
        """Held and idle GPU seconds so far, by work, after so many more seconds."""
        self.now += seconds
        self.meter.measure([observed])
        now = {work: self.read(work) for work in self.before}
        added = {
            work: (now[work][0] - held, now[work][1] - idle)
            for work, (held, idle) in self.before.items()
        }
        return {work: both for work, both in added.items() if any(both)}


def wait(checkpoint: float = 0.0, download: float = 0.0, **changes: Any) -> Observed:
    """A training that has waited for so many seconds so far."""
    told = {"checkpoint_seconds": checkpoint, "download_seconds": download}
    document = ProgressDocument(attempt=1, stage="train", **told).to_json()
    return show("train", progress={1: document}, **changes)


def test_what_training_waits_for_is_taken_out_of_it():
    """Checkpoints take seconds that no look sees as such: told as a sum, they are neither lost nor
    counted beside the training that they are part of."""
    meter = Meter()
    meter.look(wait())
    assert meter.look(wait(checkpoint=3)) == {"training": (14, 0), "checkpointing": (6, 6)}
    assert meter.look(wait(checkpoint=3))["checkpointing"] == (6, 6)
    added = meter.look(wait(checkpoint=4, download=30))  # more than has passed since: later
    assert (added["downloading"], added["checkpointing"]) == ((20, 20), (6, 6))
    meter.look(wait(checkpoint=4, download=30))
    added = meter.look(wait(checkpoint=4, download=30), seconds=100.0)
    assert (added["downloading"], added["checkpointing"]) == ((60, 60), (8, 8))
    assert sum(held for held, _ in added.values()) == 2 * 140


def test_waits_only_add_up():
    """A document that is older than the one before, or another submission's, takes nothing back;
    and what was told before this operator looked was counted by another."""
    meter = Meter()
    meter.look(wait(checkpoint=50))
    assert "checkpointing" not in meter.look(wait(checkpoint=50))
    assert meter.look(wait(checkpoint=51))["checkpointing"] == (2, 2)
    assert meter.look(wait(checkpoint=2))["checkpointing"] == (2, 2)
    assert meter.look(wait(checkpoint=51))["checkpointing"] == (2, 2)
    again = (replace(show(None).ray_jobs[0], job_id="again"),)
    assert meter.look(show(None, ray_jobs=again))["checkpointing"] == (2, 2)
    assert meter.look(wait(checkpoint=1, ray_jobs=again))["checkpointing"] == (4, 4)


def test_a_judge_is_awaited_by_no_gpu():
    """The step in which a remote judge is asked has a head alone, and no head has a GPU: of the
    idle time this reason has none by construction."""
    judge = {"openai": {"baseURL": "https://judge.example/v1", "model": "j"}}
    job = {
        "model": {"uri": "s3://bucket/model"},
        "data": {"task": "generation", "seeds": {"uri": "s3://bucket/seeds.jsonl"}},
        "output": {"uri": "s3://bucket/out"},
        "evaluation": {"judge": judge},
        "compute": {"workers": {"min": 8, "max": 8}, "worker": {"gpus": 1}},
    }
    spec = FineTuneJobSpec.model_validate(job)
    gpus = [(step, count_gpus(step, spec)) for step in list_steps(spec)]
    assert gpus == [("prepare", 0), ("train", 8), ("finish", 0)]
    launch = Launch("finish", 3, run_key="0123456789abcdef")
    manifest = build_ray_job(replace(JOB, spec=job), spec, launch, Settings("loam-runtime:1"))
    cluster = manifest["spec"]["rayClusterSpec"]
    assert cluster["workerGroupSpecs"] == []
    head = {"metadata": {"name": "p", "uid": "u", "resourceVersion": "1"}}
    assert view_pod({**head, **cluster["headGroupSpec"]["template"], **head}).gpus == 0


def test_gpu_time_is_priced_by_the_jobs_own_profile():
    """The platform team's figure must be that of the jobs' status; a job without a price has
    none."""
    spec = FineTuneProfileSpec(gpu_hour_price=1.8, currency="EUR")
    profile = Profile("gpu", spec, write_copy("gpu", spec))
    observed = show("train", profile_copy=profile.copy)
    status = {**observed.job.status, "profile": profile.use.model_dump(by_alias=True)}
    priced = replace(observed, job=replace(observed.job, status=status))
    labels = {"job_namespace": "team", "currency": "EUR"}
    before = read("loam_operator_gpu_cost_total", **labels)
    meter = Meter()
    for one in (priced, priced, observed):
        meter.look(one, seconds=1000.0)
    assert read("loam_operator_gpu_cost_total", **labels) - before == pytest.approx(1.0)


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
