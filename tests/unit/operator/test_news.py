"""Events: what is told in `kubectl describe`, and that it is told once."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.unit.operator.lane import Lane

from loam_operator.event_writer import build_event
from loam_operator.news import News, find_news


class Reader:
    """Notes the events of every write of a status."""

    def __init__(self, lane: Lane) -> None:
        self.news: list[News] = []
        lane.operator.worker._on_written = self.note

    def note(self, before, after) -> None:
        found = find_news(before, after)
        self.news += [found] if found else []

    @property
    def reasons(self) -> list[str]:
        return [one.reason for one in self.news]


def test_of_a_plain_job_only_the_end_is_told():
    """What its phase shows anyway would be a write for each step of each job, and in the list it
    would hide what a person has to know."""
    lane = Lane()
    reader = Reader(lane)
    lane.run_until("Training")
    number = lane.status.attempts[-1].number
    told = f'{{"attempt": {number}, "stage": "train", "summary": "train 6 %"}}'
    lane.world.write_progress(number, told)
    lane.work()
    assert lane.status.progress.summary == "train 6 %"
    lane.run_until("Succeeded")
    assert [(one.kind, one.reason) for one in reader.news] == [("Normal", "Succeeded")]


def test_that_trouble_is_over_is_told():
    """A warning that stands there as the last word is taken for what is the matter still."""
    lane = Lane()
    reader = Reader(lane)
    lane.world.refusal = "exceeded quota: team"
    lane.work()
    lane.world.refusal = ""
    lane.run_until("Preparing")
    assert [(one.kind, one.reason) for one in reader.news] == [
        ("Warning", "QuotaExceeded"),
        ("Normal", "Starting"),
    ]


def test_each_failure_is_told_with_its_reason_and_the_last_with_its_remedy():
    """Who reads "Retrying, Failed" still does not know what of."""
    lane = Lane(backoffLimit=1)
    reader = Reader(lane)
    lane.run_until("OutOfMemory", 14)
    failures = [one for one in reader.news if one.kind == "Warning"]
    assert [one.reason for one in failures] == ["OutOfMemory", "OutOfMemory"]
    assert "as it went" in failures[0].message
    assert "qlora" in failures[1].message
    assert reader.reasons == ["OutOfMemory", "Starting", "OutOfMemory"]


def test_waiting_suspension_and_a_retry_by_hand_are_told():
    lane = Lane()
    reader = Reader(lane)
    lane.world.refusal = "exceeded quota: team"
    lane.work()
    lane.world.refusal = ""
    lane.world.change_spec(suspend=True)
    lane.run_until("Suspended")
    lane.world.change_spec(suspend=False)
    lane.run_until("BadInput", 10)
    lane.world.update_job(retry_token="again")
    lane.work(1)
    assert ("Warning", "QuotaExceeded") in [(one.kind, one.reason) for one in reader.news]
    assert "Suspended" in reader.reasons
    assert [(one.kind, one.reason) for one in reader.news][-2:] == [
        ("Warning", "BadInput"),
        ("Normal", "Retrying"),
    ]


def test_the_same_again_is_the_same_event():
    """Another object for each would push everything else out of the list."""
    lane = Lane()
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    job, news = lane.world.job, News("Warning", "Refused", "as before")
    names = {build_event(job, news, "pod", moment)["metadata"]["name"] for _ in range(2)}
    other = build_event(job, News("Warning", "Refused", "otherwise"), "pod", moment)
    assert len({*names, other["metadata"]["name"]}) == 2
