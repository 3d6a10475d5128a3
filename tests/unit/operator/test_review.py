"""The human spot check: nothing runs while a person reads, and the word of a person is kept to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.operator.lane import Lane
from tests.unit.operator.test_news import Reader
from tests.unit.operator.world import RUN_KEY

from loam_api.progress_document import ProgressDocument, ResultDocument
from loam_api.review import (
    ANNOTATION,
    BY_ANNOTATION,
    GOOD_ROWS_ANNOTATION,
    ROWS_ANNOTATION,
    RUN_ANNOTATION,
)

OPENAI = {"kind": "openai", "openai": {"baseURL": "https://teacher.example/v1", "model": "m"}}


def make_lane(teacher: dict[str, Any] = OPENAI, **spec: Any) -> Lane:
    synthesis = {"targetCount": 10, "teacher": teacher, "spotCheck": {"required": True}}
    return Lane(synthesis=synthesis, **spec)


def decide(lane: Lane, word: str, **annotations: str) -> None:
    names = {
        "rows": ROWS_ANNOTATION,
        "good": GOOD_ROWS_ANNOTATION,
        "run": RUN_ANNOTATION,
        "by": BY_ANNOTATION,
    }
    said = {names[name]: value for name, value in annotations.items()}
    lane.world.update_job(review={ANNOTATION: word, **said})


def test_a_job_waits_without_pods_and_says_what_to_do():
    """A GPU that waits for a person over a weekend costs more than the training."""
    lane = make_lane()
    launches = lane.note_launches()
    lane.run_until("AwaitingReview")
    for _ in range(5):
        lane.act()
        lane.world.seconds += 3600
        lane.work()
    assert (lane.state, lane.status.phase) == ("AwaitingReview", "AwaitingReview")
    assert [one.step for one in launches] == ["prepare"]
    assert not [pod for pod in lane.world.pods.values() if not pod.is_over]
    assert f"s3://bucket/out/runs/{RUN_KEY}/data/spot_check.csv" in lane.message
    assert "loam approve NAME" in lane.message
    assert "loam.dev/review" in lane.message


def test_waiting_writes_nothing():
    """A thousand jobs that wait for their reviewers must not load the API server."""
    lane = make_lane()
    lane.run_until("AwaitingReview")
    lane.work()
    before = lane.world.counts.total, lane.world.counts.progress
    for _ in range(10):
        lane.world.seconds += 1000
        lane.work()
    assert (lane.world.counts.total, lane.world.counts.progress) == before


def test_approval_goes_on_and_is_recorded():
    """Who let which rows pass, and when, is asked for when the adapter turns out to be bad."""
    lane = make_lane()
    reader = Reader(lane)
    launches = lane.note_launches()
    lane.run_until("AwaitingReview")
    decide(lane, "approved", by="anna", run=RUN_KEY)
    lane.run_until("Succeeded")
    assert [one.step for one in launches] == ["prepare", "train"]
    assert json.loads(launches[1].review)["decision"] == "approved"
    review = lane.status.review
    assert (review.decision, review.by, review.run_key) == ("approved", "anna", RUN_KEY)
    assert review.time.startswith("2026-01-01T")
    assert "anna approved the synthetic rows." in [one.message for one in reader.news]


@pytest.mark.parametrize("word", ["approved", "rejected"])
def test_good_rows_are_handed_to_the_pods(word: str):
    """Rows that are marked good keep rows like them from leaving with a rejected one: unsaid to
    the pods, a person's work is lost. Ids are taken as the sample shows them, too; a row that is
    both rejected and good is rejected."""
    lane = make_lane()
    launches = lane.note_launches()
    lane.run_until("AwaitingReview")
    decide(lane, word, rows="a1", good="row-c3, c3,d4,a1")
    lane.run_until("Succeeded")
    told = json.loads(launches[1].review)
    is_rejected = word == "rejected"
    assert told["rejected_rows"] == (["a1"] if is_rejected else [])
    assert told["good_rows"] == (["c3", "d4"] if is_rejected else ["c3", "d4", "a1"])
    assert lane.status.review.good_rows == told["good_rows"]


def test_too_many_good_rows_do_not_count():
    """A list that the status cannot hold is told, not cut short in silence."""
    lane = make_lane()
    lane.run_until("AwaitingReview")
    decide(lane, "approved", good=",".join(f"g{number}" for number in range(501)))
    lane.work()
    assert lane.status.phase == "AwaitingReview"
    assert "loam.dev/review-good-rows" in lane.message


def test_rejected_rows_are_handed_to_the_pods():
    """The pods have no right to read the job: what they are not told they train on."""
    lane = make_lane()
    launches = lane.note_launches()
    lane.run_until("AwaitingReview")
    decide(lane, "rejected", rows="a1, b2,,a1")
    lane.run_until("Succeeded")
    told = json.loads(launches[-1].review)
    assert (told["decision"], told["rejected_rows"]) == ("rejected", ["a1", "b2"])


def test_a_set_that_is_refused_ends_the_job_until_that_is_taken_back():
    """Rows that a person refused must not be trained on by a retry either."""
    lane = make_lane()
    lane.run_until("AwaitingReview")
    decide(lane, "rejected", by="anna")
    lane.work()
    assert lane.state == "ReviewRejected"
    assert "anna rejected the synthetic rows." in lane.message
    lane.world.update_job(retry_token="again")
    lane.run_until("ReviewRejected")
    decide(lane, "approved")
    lane.world.update_job(retry_token="and again")
    lane.run_until("Succeeded")


@pytest.mark.parametrize(
    ("word", "annotations", "words"),
    [
        ("aproved", {}, "neither approved nor rejected"),
        ("approved", {"run": "fedcba9876543210"}, "was for other rows"),
        ("rejected", {"rows": ",".join(f"id{n}" for n in range(501))}, "500 row ids"),
        ("rejected", {"rows": "x" * 65}, "500 row ids"),
    ],
)
def test_what_does_not_count_is_said(word: str, annotations: dict[str, str], words: str):
    """A typing error that leaves the job waiting without a word is found after days."""
    lane = make_lane()
    lane.run_until("AwaitingReview")
    decide(lane, word, **annotations)
    lane.work()
    assert lane.state == "AwaitingReview"
    assert words in lane.message
    decide(lane, "approved")
    lane.run_until("Succeeded")


def test_the_base_model_writes_in_a_step_of_its_own():
    """Where the workers generate and train in one go, nobody could look in between."""
    lane = make_lane({"kind": "self"}, compute={"workers": {"min": 1, "max": 1}})
    launches = lane.note_launches()
    lane.run_until("AwaitingReview")
    decide(lane, "approved")
    lane.run_until("Succeeded")
    assert [one.step for one in launches] == ["prepare", "generate", "train"]


def test_a_review_that_is_not_required_holds_nothing():
    lane = Lane(synthesis={"targetCount": 10, "teacher": OPENAI, "spotCheck": {"sampleSize": 5}})
    lane.run_until("Succeeded")
    assert "AwaitingReview" not in lane.world.transitions


def test_a_run_that_was_reviewed_is_not_reviewed_again():
    """The same job applied again after its deletion, and a retry, have the same rows."""
    lane = make_lane()
    lane.run_until("Preparing")
    result = ResultDocument(exit_code=0, run_key=RUN_KEY, is_reviewed=True)
    lane.world.say(1, ProgressDocument(attempt=1, result=result))
    lane.world.update_ray_job(
        "job-prepare-a1", job_status="SUCCEEDED", deployment_status="Complete"
    )
    lane.run_until("Succeeded")
    assert "AwaitingReview" not in lane.world.transitions


def test_a_retry_asks_again_for_other_rows():
    """An approval is of the rows that were seen: those of changed seeds nobody has seen."""
    lane = make_lane()
    lane.run_until("AwaitingReview")
    decide(lane, "approved", run=RUN_KEY)
    lane.run_until("Training")
    lane.run_until("Diverged", 15)
    lane.world.update_job(retry_token="again")
    lane.run_until("Preparing")
    number = lane.status.attempts[-1].number
    result = ResultDocument(exit_code=0, run_key="f" * 16)
    lane.world.say(number, ProgressDocument(attempt=number, result=result))
    name = f"job-prepare-a{number}"
    lane.world.update_ray_job(name, job_status="SUCCEEDED", deployment_status="Complete")
    lane.work()
    assert lane.state == "AwaitingReview"
    assert "was for other rows" in lane.message


def test_the_deadline_goes_on_while_a_person_reads():
    """As it does in a queue: who set a deadline wants an end by then."""
    lane = make_lane(activeDeadlineSeconds=600)
    lane.run_until("AwaitingReview")
    lane.world.seconds += 601
    lane.work()
    assert lane.state == "DeadlineExceeded"


def test_suspension_stops_the_deadline_and_the_review():
    """A suspended job is approved without starting; resumed, it goes on with a whole deadline."""
    lane = make_lane(activeDeadlineSeconds=600)
    lane.run_until("AwaitingReview")
    lane.world.seconds += 500
    lane.world.change_spec(suspend=True)
    lane.work()
    assert lane.state == "Suspended"
    decide(lane, "approved")
    lane.world.seconds += 5000
    lane.work()
    assert lane.state == "Suspended"
    lane.world.update_job(review={})
    lane.world.change_spec(suspend=False)
    lane.work()
    assert lane.state == "AwaitingReview"
    lane.world.seconds += 500
    lane.work()
    assert lane.state == "AwaitingReview"
    decide(lane, "approved")
    lane.work()
    assert lane.state == "Starting"
