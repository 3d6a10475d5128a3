"""Single decisions, one fact at a time: what is judged, what is written, what it costs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.operator.lane import Lane
from tests.unit.operator.world import (
    CHILDREN,
    JUDGED,
    KEY,
    RUN_KEY,
    SPEC,
    START,
    Operator,
    make_profile,
)

from loam_api.progress_document import ProgressDocument, ResultDocument
from loam_api.status import MAX_ADMISSIONS, MAX_ATTEMPTS, MAX_MESSAGE_LENGTH
from loam_operator.cache import Cache
from loam_operator.checking import check_spec
from loam_operator.costs import add_costs
from loam_operator.decision import Launch
from loam_operator.failures import FAILURES, FAILURES_BY_EXIT
from loam_operator.judge import judge_attempt
from loam_operator.observed import Observed, PodView
from loam_operator.status import MAX_STATUS_BYTES, measure_status
from loam_operator.steps import count_workers
from loam_operator.throttle import Bucket

MOST = "5Gi"  # between the first attempt's 4Gi and half as much again
REVIEWED = {"targetCount": 10, "spotCheck": {"required": True}}


def test_a_plain_job_costs_few_writes():
    """A thousand jobs are a thousand times this."""
    lane = Lane()
    lane.run_until("Succeeded")
    lane.work()
    assert lane.world.counts.total <= 15
    assert lane.world.transitions == [
        "Starting",
        "Preparing",
        "Starting",
        "Training",
        "Finishing",
        "Succeeded",
    ]


def test_what_only_shows_how_far_a_job_is_may_wait():
    """Starts and ends never wait behind progress, and they are few: 6 objects, 2 RayJobs, 3 states,
    and workers that are let go. A write that grew into something that must be made would be
    counted here."""
    lane = Lane()
    lane.operator.throttle._bucket = Bucket(1e-9)  # never any room
    lane.run_until("Succeeded")
    assert lane.world.counts.total == 12
    assert lane.world.transitions == ["Starting", "Succeeded"]


def test_several_steps_are_one_after_the_other():
    """The steps of a job share its attempts' numbers; each begins when the last one is done, and
    gets what that has found out."""
    lane = Lane()
    launches = lane.note_launches()
    lane.run_until("Succeeded")
    assert [(one.step, one.attempt) for one in launches] == [("prepare", 1), ("train", 2)]
    assert [one.run_key for one in launches] == ["", RUN_KEY]
    assert [one.worker_memory for one in launches] == ["", "5120Mi"]


@pytest.mark.parametrize(
    ("synthesis", "workers", "state"),
    [
        ({}, 1, "Training"),
        ({"strategy": "seeded", "targetCount": 9}, 1, "Preparing"),
        ({"strategy": "seeded", "targetCount": 9}, 2, "Training"),
    ],
)
def test_training_prepares_only_what_no_step_before_has(synthesis, workers, state):
    """A job that seems to prepare its data a second time worries its owner, and costs a write; one
    that writes rows for an hour and seems to train worries him later."""
    lane = Lane(
        **({"synthesis": synthesis} if synthesis else {}),
        compute={"workers": {"min": workers, "max": workers}},
    )
    launches = lane.note_launches()
    lane.work(1)
    while launches[-1].step != "train":
        lane.act()
        lane.work(1)
    name = f"job-train-a{launches[-1].attempt}"
    lane.world.update_ray_job(name, job_status="RUNNING", deployment_status="Running")
    lane.work()
    assert lane.state == state


def run_until_step(lane: Lane, launches: list[Launch], step: str) -> None:
    lane.work(1)
    while launches[-1].step != step:
        lane.act()
        lane.work(1)


def find_condition(lane: Lane, kind: str) -> str:
    return str(next(one.status for one in lane.status.conditions if one.type == kind))


def test_what_needs_no_gpu_after_the_training_is_a_step_of_its_own():
    """A judge answers for minutes, in which as many GPUs as have trained would be held for it. The
    job says that it is trained before that, and does not seem to begin anew."""
    lane = Lane(**JUDGED, compute={"workers": {"min": 2, "max": 2}, "worker": {"gpus": 1}})
    launches = lane.note_launches()
    run_until_step(lane, launches, "train")
    assert (lane.status.gpus, find_condition(lane, "Trained")) == ("2", "False")
    run_until_step(lane, launches, "finish")
    assert (lane.status.phase, lane.status.gpus) == ("Finishing", None)
    assert "Attempt 3 (finish)" in lane.message
    assert (find_condition(lane, "Trained"), find_condition(lane, "Published")) == ("True", "False")
    lane.run_until("Succeeded")
    spec = check_spec(lane.world.job)
    steps = [(one.step, count_workers(one.step, spec), one.run_key) for one in launches]
    assert steps == [("prepare", 0, ""), ("train", 2, RUN_KEY), ("finish", 0, RUN_KEY)]
    after = lane.world.transitions.index("Training")
    assert lane.world.transitions[after:] == ["Training", "Finishing", "Succeeded"]


def suspend(lane: Lane, name: str) -> None:
    lane.world.change_spec(suspend=True)
    lane.run_until("Suspended")
    lane.world.change_spec(suspend=False)


def retry_after(exit_code: int, state: str) -> Any:
    def fail(lane: Lane, name: str) -> None:
        lane.run_until(state, exit_code)
        lane.world.update_job(retry_token="again")

    return fail


def overrun(lane: Lane, name: str) -> None:
    lane.world.seconds += 10_001
    lane.run_until("DeadlineExceeded")
    lane.world.update_job(retry_token="again")


def readmit_by_queue(lane: Lane, name: str) -> None:
    readmit(lane, name)


@pytest.mark.parametrize(
    ("disturb", "reasons"),
    [
        (lambda lane, name: lane.world.replace_head(name), ["HeadLost", "Succeeded"]),
        (lambda lane, name: lane.world.delete_job_object(name), ["HeadLost", "Succeeded"]),
        (
            lambda lane, name: lane.world.kill_for_memory(name, "head"),
            ["HostOutOfMemory", "Succeeded"],
        ),
        (lambda lane, name: lane.world.fail_ray_job(name, "exit code 1"), ["Unknown", "Succeeded"]),
        (suspend, ["Suspended", "Succeeded"]),
        (readmit_by_queue, ["Succeeded"]),
        (retry_after(11, "BadCredentials"), ["BadCredentials", "Succeeded"]),
        (retry_after(13, "BudgetSpent"), ["BudgetSpent", "Succeeded"]),
        (overrun, ["DeadlineExceeded", "Succeeded"]),
    ],
    ids=[
        *("head", "rayjob", "memory", "unknown", "suspend", "queue"),
        *("credentials", "budget", "deadline"),
    ],
)
def test_what_goes_wrong_after_the_training_trains_nothing_again(disturb: Any, reasons: list[str]):
    """The workers would start, each with its GPU and the model, to find that nothing is left for
    them: for a judge's key that was mistyped."""
    lane = Lane(**JUDGED, activeDeadlineSeconds=10_000)
    launches = lane.note_launches()
    run_until_step(lane, launches, "finish")
    for _ in range(2):
        lane.act()
        lane.work(1)
    disturb(lane, "job-finish-a3")
    lane.run_until("Succeeded")
    assert {one.step for one in launches[2:]} == {"finish"}
    assert lane.reasons == ["Succeeded", "Succeeded", *reasons]
    assert find_condition(lane, "Published") == "True"


def test_a_job_that_was_late_when_trained_only_finishes():
    """The deadline ends it between two steps: what a retry by hand goes on with is the later."""
    lane = Lane(**JUDGED, activeDeadlineSeconds=10_000)
    launches = lane.note_launches()
    run_until_step(lane, launches, "train")
    lane.run_until("Finishing")
    lane.act()
    lane.world.seconds += 10_001
    lane.work(1)
    assert lane.state == "DeadlineExceeded"
    lane.world.update_job(retry_token="again")
    lane.run_until("Succeeded")
    assert [one.step for one in launches] == ["prepare", "train", "finish"]


def test_the_children_of_a_finished_job_go_after_their_time():
    """One RayJob more than without a judge: it must not be the one that stays."""
    lane = Lane(**JUDGED, clusterTTLSeconds=60)
    lane.run_until("Succeeded")
    assert len(lane.world.ray_jobs) == 3
    lane.world.seconds += 61
    for _ in range(3):
        lane.work()
        lane.act()
    assert (lane.world.ray_jobs, lane.world.missing) == ({}, set(CHILDREN))


def test_a_published_run_is_not_made_again():
    """The same inputs and settings give the same adapter: no GPU is asked for it twice."""
    lane = Lane()
    lane.run_until("Preparing")
    result = ResultDocument(exit_code=0, run_key=RUN_KEY, is_published=True)
    lane.world.say(1, ProgressDocument(attempt=1, result=result))
    lane.world.update_ray_job(
        "job-prepare-a1", job_status="SUCCEEDED", deployment_status="Complete"
    )
    lane.work()
    assert lane.state == "Succeeded"
    assert lane.reasons == ["Succeeded"]


def test_the_workers_that_train_have_written_the_rows():
    """A step of its own would start every worker twice, its GPU held for minutes."""
    synthesis = {"strategy": "seeded", "targetCount": 10, "teacher": {"kind": "self"}}
    lane = Lane(synthesis=synthesis, compute={"workers": {"min": 4, "max": 4}})
    launches = lane.note_launches()
    lane.run_until("Succeeded")
    spec = check_spec(lane.world.job)
    steps = [(one.step, count_workers(one.step, spec)) for one in launches]
    assert steps == [("prepare", 0), ("train", 4)]


@pytest.mark.parametrize(("exit_code", "is_free"), [(0, True), (15, False)])
def test_workers_are_let_go_when_they_are_done(exit_code: int, is_free: bool):
    """KubeRay leaves the pods for 10 s, for their logs to be read: of a success nobody reads them,
    and GPUs idle; what failed is asked for its last words."""
    lane = Lane()
    lane.run_until("Training")
    (train,) = [one for one in lane.world.ray_jobs if "-train-" in one]
    while not lane.world.ray_jobs[train].is_over:
        lane.world.advance_ray_job(train, exit_code)
    lane.work(1)
    assert {pod.deletion_due is not None for pod in lane.world.list_pods(train)} == {is_free}


def test_a_retry_by_hand_prepares_anew():
    """The user may have corrected the very rows that were prepared."""
    lane = Lane()
    launches = lane.note_launches()
    lane.run_until("Training")
    lane.run_until("Diverged", 15)
    lane.world.update_job(retry_token="again")
    lane.run_until("Succeeded")
    assert [one.step for one in launches] == ["prepare", "train", "prepare", "train"]


@pytest.mark.parametrize("failure", [one for one in FAILURES if one.exit_code is not None])
def test_exit_codes_are_judged_by_the_table(failure):
    """A class that is retried although nothing will change burns GPUs; one that is not, a job."""
    lane = Lane(backoffLimit=8)
    lane.run_until(failure.name, int(failure.exit_code))
    most = failure.most_retries if failure.retry != "never" else 0
    assert lane.reasons == [failure.name] * (most + 1)
    assert failure.remedy in lane.message
    assert "as it went" in lane.message


def test_backoff_limit_is_the_lower_bound():
    lane = Lane(backoffLimit=0)
    lane.run_until("OutOfMemory", 14)
    assert lane.reasons == ["OutOfMemory"]


def test_an_unknown_exit_is_tried_once_more():
    lane = Lane()
    lane.run_until("Unknown", 137)
    assert lane.reasons == ["Unknown", "Unknown"]


def test_infrastructure_goes_before_the_runtimes_word():
    """A process that was killed for memory often leaves an exit code that blames the data."""
    lane = Lane()
    lane.run_until("Preparing")
    lane.world.kill_for_memory("job-prepare-a1", "head")
    lane.world.fail_ray_job("job-prepare-a1", "Job entrypoint command failed with exit code 10")
    lane.run_until("Starting")
    assert lane.reasons[0] == "HostOutOfMemory"


@pytest.mark.parametrize("role", ["head", "worker"])
def test_memory_grows_after_an_oom_kill(role: str):
    """The same attempt with the same memory dies the same death. KubeRay has deleted the pod and
    made another before anybody can look: only the event of its deletion knows, and a lost head
    would be tried again with the same memory eight times."""
    lane = Lane()
    launches = lane.note_launches()
    lane.run_until("Training")
    lane.world.kill_for_memory("job-train-a2", role)
    lane.run_until("Training")
    assert [(one.attempt, one.memory_factor) for one in launches] == [(1, 1), (2, 1), (3, 1.5)]
    assert (lane.reasons[1], lane.status.attempts[1].exit_code) == ("HostOutOfMemory", 137)


def test_memory_that_cannot_grow_is_no_reason_to_try_again():
    """Three more attempts with the memory that was too little are charged and die like the first;
    the reader has to learn whose limit it is."""
    lane = Lane(backoffLimit=8)
    lane.world.profiles = {
        "small": make_profile("small", default=True, limits={"memoryPerPod": MOST})
    }
    for number in (1, 2):
        lane.run_until("Preparing")
        lane.world.kill_for_memory(f"job-prepare-a{number}", "head")
    lane.run_until("HostOutOfMemory")
    assert lane.reasons == ["HostOutOfMemory"] * 2  # with 4Gi, and with the most
    assert "5Gi that FineTuneProfile small allows at most (limits.memoryPerPod)" in lane.message


@pytest.mark.parametrize(
    ("disturb", "reason"),
    [
        (lambda world, name: world.delete_job_object(name), "HeadLost"),
        (lambda world, name: world.replace_head(name), "HeadLost"),
        (lambda world, name: world.fail_ray_job(name, "exit code 10"), "HostOutOfMemory"),
    ],
)
def test_two_evidences_are_judged_as_the_table_says(disturb: Any, reason: str):
    """docs/failures.md tells the reader that the upper row counts: what a lost machine has caused
    would be charged to the job, and what a kill has caused blamed on its data."""
    names = [failure.name for failure in FAILURES]
    assert names.index("HeadLost") < names.index("HostOutOfMemory") < names.index("BadInput")
    lane = Lane()
    lane.run_until("Training")
    disturb(lane.world, "job-train-a2")
    lane.world.kill_for_memory("job-train-a2", "worker")
    lane.work(1)
    assert lane.reasons[1] == reason


def test_a_ray_job_that_is_gone_with_its_dead_is_not_started_again():
    """Deleted before it was seen running, it leaves nothing in the status; but who knows of a pod
    that died in it would start the same attempt once more, only to end it by that."""
    lane = Lane()
    lane.work(1)
    lane.world.advance_ray_job("job-prepare-a1")
    lane.world.kill_for_memory("job-prepare-a1", "head")
    lane.world.delete_job_object("job-prepare-a1")
    del lane.world.ray_jobs["job-prepare-a1"]
    lane.world.seconds += 300
    lane.world.collect_garbage()
    lane.work(1)
    assert lane.reasons == ["HeadLost"]


def test_a_result_that_contradicts_a_success_is_judged_as_the_table_says():
    """The exit codes stand below: a success without a valid result is not the data's fault."""
    names = [failure.name for failure in FAILURES]
    assert names.index("NoResult") < names.index("BadInput")
    lane = Lane()
    lane.run_until("Preparing")
    lane.world.say(1, ProgressDocument(attempt=1, result=ResultDocument(exit_code=10)))
    name = "job-prepare-a1"
    lane.world.update_ray_job(name, job_status="SUCCEEDED", deployment_status="Complete")
    lane.work(1)
    assert lane.reasons == ["NoResult"]


def test_what_is_refused_too_late_is_late():
    """The order of the table again: a job that has waited in vain for a review is overdue, whatever
    its profile has come to forbid meanwhile."""
    names = [failure.name for failure in FAILURES]
    assert names.index("DeadlineExceeded") < names.index("NotAllowed")
    lane = Lane(activeDeadlineSeconds=60, synthesis=REVIEWED)
    lane.run_until("AwaitingReview")
    lane.world.profiles = {"closed": make_profile("closed", default=True, allow={"models": []})}
    lane.world.update_job(review={"loam.dev/review": "approved"})
    lane.world.seconds += 61
    lane.work()
    assert lane.state == "DeadlineExceeded"


def test_the_dead_of_an_earlier_job_of_this_name_are_not_charged():
    """A job that was deleted and applied again has the names and attempt numbers of the one before:
    its first attempt would end with the other's kill, by more memory than it needs."""
    lane = Lane()
    lane.run_until("Preparing")
    old = PodView("old", "old", "head", 1, phase="Failed", is_oom_killed=True, job_uid="uid-old")
    lane.world.pods["old"] = old
    lane.run_until("Succeeded")
    assert lane.reasons == ["Succeeded", "Succeeded"]


@pytest.mark.parametrize(("job_uid", "has_started"), [("uid-old", False), ("", True)])
def test_pods_of_an_earlier_job_are_waited_for_and_no_others(job_uid: str, has_started: bool):
    """Two jobs of one name would write side by side; but whoever puts the job's label on a pod of
    his own would hold the job up for ever."""
    lane = Lane()
    lane.world.pods["old"] = PodView("old", "o", "head", 1, phase="Running", job_uid=job_uid)
    lane.work()
    assert bool(lane.world.ray_jobs) == has_started
    del lane.world.pods["old"]
    lane.work()
    assert lane.world.ray_jobs


def test_an_earlier_jobs_pod_is_waited_for_whatever_has_succeeded_since():
    """The first attempt of this job has succeeded, not that of the other one, whose pods work."""
    lane = Lane()
    lane.run_until("Preparing")
    lane.world.pods["old"] = PodView("old", "o", "head", 1, phase="Running", job_uid="uid-old")
    lane.world.update_ray_job("job-prepare-a1", job_status="SUCCEEDED")
    result = ResultDocument(exit_code=0, run_key=RUN_KEY)
    lane.world.say(1, ProgressDocument(attempt=1, result=result))
    lane.world.update_ray_job("job-prepare-a1", deployment_status="Complete")
    lane.work()
    assert lane.reasons == ["Succeeded"]


@pytest.mark.parametrize("end", ["DeadlineExceeded", "HeadLost"])
def test_children_go_after_their_time_though_no_ray_job_is_kept(end: str):
    """These ends delete the only RayJob at once: rights, rules and manifest stayed as long as the
    job, which nobody deletes."""
    lane = Lane(activeDeadlineSeconds=900, clusterTTLSeconds=60)
    for number in range(1, 10 if end == "HeadLost" else 2):
        lane.run_until("Preparing")
        if end == "HeadLost":
            lane.world.replace_head(f"job-prepare-a{number}")
            lane.work(1)
    lane.world.seconds += 0 if end == "HeadLost" else 901
    lane.run_until(end)
    for _ in range(3):
        lane.act()
        lane.work()
    assert (lane.world.ray_jobs, lane.world.missing) == ({}, set())
    lane.world.seconds += 61
    lane.work()
    assert lane.world.missing == set(CHILDREN)
    writes = lane.world.counts.total
    lane.operator.restart()
    lane.work()
    assert lane.world.counts.total == writes


def test_lost_heads_are_free_but_not_for_ever():
    lane = Lane(backoffLimit=0)
    for number in range(1, 10):
        lane.run_until("Preparing")
        lane.world.replace_head(f"job-prepare-a{number}")
        lane.work(1)
    lane.run_until("HeadLost")
    assert lane.reasons == ["HeadLost"] * 9
    assert not any(attempt.charged for attempt in lane.status.attempts)


def test_preemption_keeps_the_attempt():
    """A queue that takes pods away and gives others is no failure of anybody's."""
    lane = Lane(backoffLimit=0)
    lane.run_until("Training")
    lane.world.hold("job-train-a2")
    lane.work()
    assert lane.state == "Queued"
    lane.run_until("Succeeded")
    assert lane.reasons == ["Succeeded", "Succeeded"]


def readmit(lane: Lane, name: str) -> None:
    """A queue takes the pods of a RayJob away and gives it others, which have not said a word."""
    lane.world.hold(name)
    lane.work()
    lane.world.advance_ray_job(name)
    lane.work()


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_queue_may_take_the_pods_away_so_often_and_no_more(has_begun: bool):
    """Two jobs that preempt each other would pay for loading a model for ever, and a status that
    says nothing but Queued hides it."""
    lane = Lane()
    lane.world.update_job(queue_labels={"kueue.x-k8s.io/queue-name": "team-a"})
    lane.run_until("Training")
    name = "job-train-a2"
    for number in range(1, MAX_ADMISSIONS + 1):
        assert lane.status.attempts[1].admissions == number
        assert lane.status.attempts[1].job_id == lane.world.ray_jobs[name].job_id
        lane.world.hold(name)
        lane.work()
        assert f"preempted ({number} of at most {MAX_ADMISSIONS}" in lane.message
        lane.world.update_ray_job(name, deployment_status="")  # admitted, and not begun yet
        lane.work()
        assert lane.state == "Queued"
        if has_begun and number < MAX_ADMISSIONS:
            lane.run_until("Training")
        else:
            lane.world.advance_ray_job(name)
            lane.work(1)
    assert lane.state == "PreemptedTooOften"
    assert "The queue team-a has taken" in lane.message
    assert not lane.status.attempts[1].charged


def test_a_job_without_a_queue_is_admitted_once():
    """The count costs a plain job no write; what held a RayJob before it began is no preemption."""
    lane = Lane()
    lane.work()
    lane.world.update_ray_job("job-prepare-a1", job_id="before", deployment_status="Initializing")
    writes = lane.world.counts.total
    lane.work()
    assert lane.world.counts.total == writes
    lane.world.update_ray_job("job-prepare-a1", job_id="", deployment_status="Suspended")
    lane.work()
    assert lane.message == "Attempt 1 waits for its queue."
    lane.run_until("Succeeded")
    assert [one.admissions for one in lane.status.attempts] == [1, 1]


def test_what_was_told_before_a_queue_took_the_pods_is_old():
    """The attempt's document stays when its pods go: a job whose new pods wait for an image would
    be shown as training, its GPUs as busy, for as long as that takes."""
    lane = Lane()
    lane.run_until("Finishing")
    readmit(lane, "job-train-a2")
    assert lane.state == "Starting"
    lane.run_until("Succeeded")
    assert lane.reasons == ["Succeeded", "Succeeded"]


@pytest.mark.parametrize("exit_code", [0, 11])
def test_a_result_from_before_a_queue_took_the_pods_ends_nothing(exit_code: int):
    """Written as the pods had to go, it would make a failure of other pods a success, or one that
    is never tried again."""
    lane = Lane()
    lane.run_until("Training")
    result = ResultDocument(exit_code=exit_code)
    lane.world.say(2, ProgressDocument(attempt=2, result=result))
    readmit(lane, "job-train-a2")
    if exit_code:
        lane.world.fail_ray_job("job-train-a2", "The head does not answer.")
    else:
        lane.world.update_ray_job(
            "job-train-a2", job_status="SUCCEEDED", deployment_status="Complete"
        )
    lane.work()
    assert lane.reasons[1] == ("Unknown" if exit_code else "NoResult")


def test_the_deadline_ends_the_attempt():
    lane = Lane(activeDeadlineSeconds=60)
    lane.run_until("Preparing")
    lane.world.seconds += 61
    lane.work(1)
    assert lane.state == "DeadlineExceeded"
    lane.act()
    lane.act()
    assert not lane.world.pods


def test_a_success_is_not_lost_to_the_deadline():
    """The run is published; to call it failed because nobody looked in time would be untrue."""
    lane = Lane(activeDeadlineSeconds=60)
    lane.run_until("Finishing")
    lane.act()
    lane.world.seconds += 61
    lane.work(1)
    assert lane.state == "Succeeded"


def test_suspension_stops_the_deadline():
    lane = Lane(activeDeadlineSeconds=600)
    lane.run_until("Preparing")
    lane.world.change_spec(suspend=True)
    lane.run_until("Suspended")
    lane.world.seconds += 10_000
    lane.work()
    lane.world.change_spec(suspend=False)
    lane.run_until("Succeeded")


def test_pods_on_a_silent_node_do_not_hold_the_job_for_ever():
    """A pod whose kubelet is gone stays Terminating; after two minutes the fence is enough."""
    lane = Lane()
    lane.run_until("Preparing")
    lane.world.delete_job_object("job-prepare-a1")
    lane.work()
    assert lane.reasons == ["HeadLost"]
    lane.world.seconds += 120 + 119
    lane.work()
    assert len(lane.reasons) == 1
    lane.world.seconds += 2
    lane.work()
    assert len(lane.reasons) == 2


def test_waiting_pods_are_named():
    """ "Starting" for an hour helps nobody."""
    lane = Lane()
    lane.work()
    pod = PodView("pod", "u", "worker", 1, waiting="ImagePullBackOff", resource_version="1")
    lane.world.pods["pod"] = replace(pod, job_uid="uid-job")
    lane.work()
    assert lane.state == "ImageUnavailable"
    assert "pod waits with ImagePullBackOff" in lane.message
    writes = lane.world.counts.total
    lane.world.update_pod("pod", waiting="ErrImagePull")  # as it goes, back and forth
    lane.work()
    assert lane.world.counts.total == writes


def test_a_pod_that_has_just_come_is_not_trouble():
    """Every pod is unschedulable for an instant, and each word of it would be a write."""
    lane = Lane()
    lane.work()
    lane.world.pods["pod"] = PodView(
        *("pod", "u", "worker", 1),
        unschedulable="0/3 nodes",
        waiting_since=lane.world.now(),
        job_uid="uid-job",
    )
    lane.work()
    assert lane.state == "Starting"
    lane.world.seconds += 11
    lane.work()
    assert lane.state == "Unschedulable"


def test_status_is_bounded_whatever_is_told():
    lane = Lane(backoffLimit=8)
    for number in range(1, 60):
        lane.run_until("Preparing")
        if number % 2:
            lane.world.change_spec(suspend=True)
            lane.run_until("Suspended")
            lane.world.change_spec(suspend=False)
        else:
            lane.world.fail_ray_job(f"job-prepare-a{number}", "ü" * 100_000 + "\x00\n")
            lane.run_until("Unknown" if number % 4 == 0 else "Starting")
            if number % 4 == 0:
                lane.world.update_job(retry_token=f"t{number}" * 50)
    assert len(lane.status.attempts) <= MAX_ATTEMPTS
    assert measure_status(lane.status) < MAX_STATUS_BYTES
    assert all(len(one.message) <= MAX_MESSAGE_LENGTH for one in lane.status.conditions)


def test_a_newer_operators_end_stays_an_end():
    """After a downgrade, a reason that is not in the table must not start a finished job."""
    lane = Lane()
    lane.run_until("Succeeded")
    raw = dict(lane.world.job.status)
    raw["conditions"] = [{**one, "reason": "FromTheFuture"} for one in raw["conditions"]]
    lane.world.update_job(status=raw)
    lane.world.ray_jobs.clear()
    writes = lane.world.counts.total
    lane.work()
    assert lane.world.counts.total == writes


def test_what_is_being_deleted_is_not_deleted_again():
    """Until the watch tells of the deletion, every other event would repeat it."""
    lane = Lane(clusterTTLSeconds=0)
    lane.run_until("Succeeded")
    lane.operator.work()
    deleted = lane.world.counts.deleted
    assert deleted
    for _ in range(5):
        lane.operator.work()
    assert lane.world.counts.deleted == deleted


def test_a_late_memory_launches_nothing():
    """An operator that has heard of an attempt and not yet of its RayJob, nor of anything since,
    would create it once more after the job's end."""
    lane = Lane(clusterTTLSeconds=0)
    lane.work(1)
    late = Operator(lane.world)
    late.cache = Cache()
    late.cache.put_job(lane.world.job)
    late.worker._cache = late.cache
    lane.run_until("Succeeded")
    for _ in range(5):
        lane.act()
        lane.work()
    assert not lane.world.ray_jobs
    writes = lane.world.counts.total
    late.work()
    assert lane.world.counts.total == writes
    assert not lane.world.ray_jobs


def test_a_job_under_deletion_is_left_alone():
    lane = Lane()
    lane.world.update_job(is_deleting=True)
    lane.work()
    assert lane.world.counts.total == 0


def test_progress_is_written_seldom():
    """A step a second is shown once in thirty."""
    lane = Lane()
    lane.run_until("Training")
    before = lane.world.counts.progress
    for percent in range(100):
        lane.world.write_progress(
            2, f'{{"attempt": 2, "stage": "train", "summary": "train {percent} %"}}'
        )
        lane.work(1)
        lane.world.seconds += 1
    assert 3 <= lane.world.counts.progress - before <= 4


@pytest.mark.parametrize(
    ("end", "exit_code", "cost"),
    [("BudgetSpent", 13, "1.50 USD"), ("Unknown", 1, "2.50 USD"), ("Succeeded", 0, "2.50 USD")],
)
def test_what_was_spent_is_shown_however_the_job_ends(end: str, exit_code: int, cost: str):
    """Money that went into a job that failed is the money that is asked about."""
    lane = Lane()
    lane.run_until(end, exit_code)
    assert lane.status.cost == cost
    assert cost.startswith(f"{lane.status.usage.teacher_requests}.")


def run_priced(lane: Lane, state: str, exit_code: int = 0, **prices: Any) -> Any:
    """The usage of a job that ended so, under a profile with these prices."""
    lane.world.profiles = {"gpu": make_profile("gpu", default=True, **prices)}
    lane.run_until(state, exit_code)
    return lane.status.usage


def test_gpus_are_priced_from_node_to_end():
    """Whoever pays asks what a job has cost, not how long its status said Training: hours without
    a node cost nothing, an image's minutes do, and so do attempts that failed."""
    lane = Lane()
    run_until_step(lane, lane.note_launches(), "train")
    lane.world.seconds += 50_000  # in a queue for pods
    usage = run_priced(lane, "Training", gpuHourPrice=360.0, currency="EUR")
    assert usage is None or usage.gpu_seconds <= 10
    started = lane.world.seconds
    lane.world.seconds += 1000
    lane.world.fail_ray_job("job-train-a2", "exit code 1")
    lane.work(1)
    first = lane.status.usage.gpu_seconds
    assert 1000 <= first <= lane.world.seconds - started + 10
    lane.run_until("Succeeded")
    usage = lane.status.usage
    assert usage.gpu_seconds > first
    assert usage.gpu_cost == f"{usage.gpu_seconds / 10:.2f} EUR"
    assert lane.status.cost == f"3.50 USD + {usage.gpu_cost}"


def test_time_alone_is_no_write():
    """GPU seconds grow by the second: told for their own sake they would be a write for each job
    every half minute, for days in which nothing happens."""
    lane = Lane()
    run_priced(lane, "Training", gpuHourPrice=1.0)
    lane.work()
    before = lane.world.counts.total, lane.world.counts.progress
    for _ in range(20):
        lane.world.seconds += 60
        lane.work(1)
    assert (lane.world.counts.total, lane.world.counts.progress) == before


def test_both_parts_of_the_cost_are_told_and_their_sum():
    lane = Lane()
    usage = run_priced(lane, "Succeeded", gpuHourPrice=360.0, currency="USD")
    assert usage.teacher_cost == "2.50 USD"
    assert usage.gpu_seconds > 0
    assert usage.gpu_cost == f"{usage.gpu_seconds / 10:.2f} USD"
    assert lane.status.cost == f"{2.5 + usage.gpu_seconds / 10:.2f} USD"


def test_the_price_is_that_of_the_jobs_start():
    """A price that is raised while a job runs would change what was agreed to."""
    lane = Lane()
    run_priced(lane, "Training", gpuHourPrice=360.0)
    usage = run_priced(lane, "Succeeded", gpuHourPrice=1.0)
    assert usage.gpu_cost == f"{usage.gpu_seconds / 10:.2f}"


@pytest.mark.parametrize(
    ("teacher", "gpus", "currency", "cost"),
    [
        ("1.50 USD", "2.25 USD", "USD", "3.75 USD"),
        ("1.50", "2.25 EUR", "EUR", "3.75 EUR"),  # by the profile's prices
        ("1.50", "2.25", "", "3.75"),
        ("1.50 USD", "2.25 EUR", "EUR", "1.50 USD + 2.25 EUR"),
        ("1.50 USD", "2.25", "", "1.50 USD + 2.25"),
        ("", "2.25 EUR", "EUR", "2.25 EUR"),
        ("1.50 USD", "", "EUR", "1.50 USD"),
        ("9" * 64, "2.25 EUR", "EUR", "9" * 63 + "…"),
    ],
)
def test_amounts_of_two_currencies_are_not_added(teacher, gpus, currency, cost):
    """A sum of dollars and euros is no amount at all; what a pod writes for a cost may be
    anything, and a status that is too long is written by nobody."""
    assert add_costs(teacher, gpus, currency) == cost


def test_each_exit_code_has_one_class():
    """An exit code without a class would be retried as unknown."""
    from loam_api.exits import ExitCode

    unclassified = {ExitCode.DONE, ExitCode.UNKNOWN, ExitCode.INTERRUPTED}
    unclassified.add(ExitCode.AWAITS_REVIEW)  # the operator holds the job: no pod ends with it
    assert set(FAILURES_BY_EXIT) == set(ExitCode) - unclassified


def test_judging_does_not_look_at_other_attempts():
    """A late document of an earlier attempt must not end the present one."""
    lane = Lane()
    lane.run_until("Preparing")
    lane.world.progress[1] = '{"attempt": 2, "result": {"exitCode": 0}}'
    observed = Observed(
        lane.world.job, tuple(lane.world.ray_jobs.values()), (), dict(lane.world.progress)
    )
    verdict = judge_attempt(observed, lane.status.attempts[-1], START + timedelta(seconds=1))
    assert verdict.progress is None


def test_the_model_spec_is_valid():
    """A world whose job is refused would prove nothing."""
    assert KEY.name == "job"
    assert Lane(**SPEC).state == ""
