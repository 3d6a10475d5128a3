"""The lines that outlive the pods: few, without secrets, and the right ones."""

from __future__ import annotations

from tests.unit.operator.lane import Lane

from loam_api.status import MAX_LOG_LENGTH
from loam_operator.log_lines import keep_lines
from loam_operator.observed import PodLog, PodView
from loam_operator.pod_logs import choose_pods

SECRET = "sk-abcdefghijklmnop1234"


def test_a_secret_in_a_log_does_not_reach_the_status():
    """A status can be read by whoever may list jobs; a traceback often holds the request."""
    text = (
        f"Authorization: Bearer {SECRET}\nurl=https://me:hunter22@store/\nAWS_SECRET_ACCESS_KEY=x1"
    )
    lane = Lane()
    lane.world.logs = (PodLog("submitter", "s", text),)
    lane.run_until("Unknown", 1)
    kept = str(lane.world.job.status)
    assert "[redacted]" in kept
    assert not any(word in kept for word in (SECRET, "hunter22", "x1"))


def test_a_secret_at_the_cut_is_masked_all_the_same():
    """Half a key has no shape any more, and is half a key."""
    line = "x" * 390 + f" password={SECRET}"
    assert SECRET[:6] not in keep_lines([PodLog("head", "h", line)])


def test_the_last_lines_of_each_pod_fit_into_4_kib():
    """The head's chatter must not leave the job's own words without room, nor the other way."""
    logs = [
        PodLog(role, f"pod-{role}", "\n".join(f"{role} says ü {n}" for n in range(1000)))
        for role in ("head", "worker", "submitter")
    ]
    kept = keep_lines(logs)
    assert len(kept.encode()) <= MAX_LOG_LENGTH
    assert kept.startswith("--- submitter pod-submitter")
    for role in ("head", "worker", "submitter"):
        assert kept.count(f"{role} says") > 20
        assert f"{role} says ü 999" in kept
    alone = keep_lines(logs[:1])
    assert len(alone.encode()) <= MAX_LOG_LENGTH
    assert alone.count("head says") == 100


def test_an_unknown_failure_ends_with_the_logs_words():
    """ "Exit code 1" sends everybody to a log that is gone with its pod."""
    lane = Lane(backoffLimit=0)
    lane.world.logs = (
        PodLog("head", "h", "ray started\n"),
        PodLog("submitter", "s", "Traceback\n\nKeyError: 'loss'\n"),
    )
    lane.run_until("Unknown", 1)
    assert "The log ends: Traceback / KeyError: 'loss'" in lane.message
    assert lane.status.failure_log.attempt == 1
    assert "ray started" in lane.status.failure_log.text


def test_a_known_failure_keeps_its_own_words():
    """The runtime has said it better than its traceback does."""
    lane = Lane()
    lane.world.logs = (PodLog("submitter", "s", "Traceback"),)
    lane.run_until("BadCredentials", 11)
    assert "Traceback" not in lane.message
    assert "Traceback" in lane.status.failure_log.text


def test_only_the_latest_failed_attempts_log_is_kept():
    lane = Lane(backoffLimit=1)
    lane.world.logs = (PodLog("submitter", "s", "first"),)
    lane.run_until("Retrying", 14)
    lane.world.logs = (PodLog("submitter", "s", "second"),)
    lane.run_until("OutOfMemory", 14)
    assert (lane.status.failure_log.attempt, lane.status.failure_log.text) == (
        2,
        "--- submitter s\nsecond",
    )


def test_no_log_is_asked_for_where_nothing_failed():
    """A log of every step of ten thousand jobs is what the kubelets have no time for."""
    lane = Lane()

    async def refuse(*_):
        raise AssertionError("asked for a log")

    lane.world.read_logs = refuse  # type: ignore[method-assign]
    lane.run_until("Training")
    lane.world.change_spec(suspend=True)
    lane.run_until("Suspended")
    lane.world.change_spec(suspend=False)
    lane.run_until("Succeeded")


def test_of_the_workers_the_one_that_failed_is_read():
    """The others only say that they miss it."""
    pods = [
        PodView("w1", "1", "worker", 1, phase="Running"),
        PodView("w2", "2", "worker", 1, phase="Failed"),
        PodView("w3", "3", "worker", 1, phase="Running"),
        PodView("h", "4", "head", 1, phase="Pending"),
    ]
    assert [pod.name for pod in choose_pods(pods)] == ["w2"]
