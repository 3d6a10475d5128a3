from __future__ import annotations

import json
import logging
import resource
import threading
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loam_runtime.observability.logs import EventLog
from loam_runtime.observability.redaction import MASK, Redactor

SECRET = "very-secret-value"


@pytest.fixture
def event_log(tmp_path):
    path = tmp_path / "logs" / "1" / "log.jsonl"
    log = EventLog(path, job="tickets", attempt=1, redactor=Redactor({"API_KEY": SECRET}))
    yield log
    log.close()


def read_lines(log: EventLog) -> list[dict]:
    return [json.loads(line) for line in log.path.read_text(encoding="utf-8").splitlines()]


def test_a_line_carries_job_stage_attempt_and_fields(event_log):
    """Logs of many jobs land in one index: without these a line cannot be traced to its run."""
    event_log.write("rows_kept", {"num_rows": 3}, level="warning", stage="synthesize")
    (line,) = read_lines(event_log)
    assert datetime.fromisoformat(line.pop("ts")).utcoffset().total_seconds() == 0
    assert line == {
        "level": "warning",
        "event": "rows_kept",
        "job": "tickets",
        "stage": "synthesize",
        "attempt": 1,
        "fields": {"num_rows": 3},
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.text())
def test_any_text_is_one_line(event_log, event, value):
    """A newline or U+2028 in a user's text must not forge or split a line."""
    before = len(event_log.path.read_bytes().split(b"\n"))
    event_log.write(event, {"value": value, "stage": value, "level": value})
    assert len(event_log.path.read_bytes().split(b"\n")) == before + 1
    fields = read_lines(event_log)[-1]["fields"]
    assert set(fields) == {"value", "stage", "level"}


def test_a_full_disk_costs_lines_and_not_the_run(event_log, capsys):
    """Lines that do not fit are left out, whole, and told of once: a log must not end the hours
    of work that it is about, nor be unreadable after the first line that was torn."""
    event_log.write("first")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (event_log.path.stat().st_size + 9, limits[1]))
    try:
        event_log.write("torn")
        event_log.write("lost")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    event_log.write("last")
    assert [line["event"] for line in read_lines(event_log)] == ["first", "last"]
    assert capsys.readouterr().err.count(f"The log {event_log.path} cannot be written") == 1


def test_secrets_are_masked_in_the_file(event_log):
    """The log is uploaded to the user's bucket, where more people read than know the key."""
    event_log.write(f"event {SECRET}", {"message": f"key {SECRET}", "api_key": "short"})
    text = event_log.path.read_text()
    assert SECRET not in text
    assert read_lines(event_log)[0]["fields"]["api_key"] == MASK


def test_lines_of_many_threads_do_not_mix(event_log):
    """Ray's events come from a thread of their own; two half lines would be two lost events."""

    def write_many(worker: int) -> None:
        for index in range(50):
            event_log.write("step", {"worker": worker, "index": index, "text": "x" * 500})

    threads = [threading.Thread(target=write_many, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = {(line["fields"]["worker"], line["fields"]["index"]) for line in read_lines(event_log)}
    assert len(seen) == 200


def test_library_warnings_are_captured_while_asked_for(event_log):
    """What a library warns of explains failures later; after the run its records stay out."""
    logger = logging.getLogger("some.library")
    with event_log.capture_logging():
        logger.warning("retrying with %s", SECRET)
        logger.info("chatter")
    logger.warning("after")
    (line,) = read_lines(event_log)
    assert line["event"] == "library_message"
    assert line["level"] == "warning"
    assert line["fields"] == {"logger": "some.library", "message": f"retrying with {MASK}"}


def test_a_second_opening_continues_the_file(tmp_path):
    """A resumed attempt must not wipe what the killed one had to say."""
    for event in ("first", "second"):
        log = EventLog(tmp_path / "log.jsonl", job="j", attempt=1)
        log.write(event)
        log.close()
        log.write("after close")
    assert [line["event"] for line in read_lines(log)] == ["first", "second"]
