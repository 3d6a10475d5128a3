"""Queue, throttle and views: small parts whose faults would show only under load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.operator.world import SPEC

from loam_api.progress_document import name_progress_key, parse_progress
from loam_operator import work_queue
from loam_operator.api import ApiError
from loam_operator.cache import Cache, Key
from loam_operator.checking import SpecError, check_spec
from loam_operator.health import PULSE_SECONDS, Health
from loam_operator.kinds import list_kinds
from loam_operator.lease import RENEW_SECONDS, Lease
from loam_operator.observed import JobView, Observed, RayJobView
from loam_operator.profile_reader import ProfileReader
from loam_operator.settings import SettingsError, read_settings
from loam_operator.throttle import LookThrottle, ProgressThrottle
from loam_operator.views import find_attempt, view_job, view_pod
from loam_operator.work_queue import WorkQueue

A, B = Key("n", "a"), Key("n", "b")


def run_queue(
    work: Callable[[Key], Awaitable[float | None]],
    scenario: Callable[[WorkQueue], Awaitable[None]],
    num_workers: int = 4,
) -> None:
    async def main() -> None:
        queue = WorkQueue(work, num_workers)
        runner = asyncio.create_task(queue.run())
        await asyncio.wait_for(scenario(queue), 20)
        runner.cancel()

    asyncio.run(main())


def test_a_key_is_never_worked_on_twice_at_once():
    """Two passes over one job would write against each other."""
    running, most, passes = 0, 0, 0
    is_done = asyncio.Event()

    async def work(key: Key) -> None:
        nonlocal running, most, passes
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        passes += 1
        if passes < 4:
            queue_of["it"].add(key)
        else:
            is_done.set()

    queue_of: dict[str, WorkQueue] = {}

    async def scenario(queue: WorkQueue) -> None:
        queue_of["it"] = queue
        for _ in range(10):
            queue.add(A)
        await is_done.wait()

    run_queue(work, scenario)
    assert (most, passes) == (1, 4)


def test_news_during_a_pass_is_not_lost():
    """It came after the pass had looked: without another pass it would wait for five minutes."""
    seen: list[str] = []
    has_started, may_go, is_done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(key: Key) -> None:
        seen.append(key.name)
        if len(seen) == 1:
            has_started.set()
            await may_go.wait()
        else:
            is_done.set()

    async def scenario(queue: WorkQueue) -> None:
        queue.add(A)
        await has_started.wait()
        queue.add(A)
        may_go.set()
        await is_done.wait()

    run_queue(work, scenario)
    assert seen == ["a", "a"]


def test_errors_are_tried_again_and_hold_nobody_up(monkeypatch):
    """One broken job must not stop the others, nor be forgotten."""
    monkeypatch.setattr(work_queue, "_FIRST_ERROR_SECONDS", 0.01)
    passes: list[str] = []
    is_done = asyncio.Event()

    async def work(key: Key) -> None:
        passes.append(key.name)
        if key == A and passes.count("a") < 4:
            raise RuntimeError("broken")
        if passes.count("a") == 4:
            is_done.set()

    async def scenario(queue: WorkQueue) -> None:
        queue.add(A)
        queue.add(B)
        await is_done.wait()

    run_queue(work, scenario, num_workers=1)
    assert passes.count("b") == 1


def test_a_cancelled_request_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    """kopf cancels what it takes for its own: a worker that ended by it would leave the queue with
    one less, and at last with none."""
    monkeypatch.setattr(work_queue, "_FIRST_ERROR_SECONDS", 0.01)
    num_passes = 0
    is_done = asyncio.Event()

    async def work(key: Key) -> None:
        nonlocal num_passes
        num_passes += 1
        if num_passes == 1:
            request = asyncio.create_task(asyncio.Event().wait())
            asyncio.get_running_loop().call_soon(request.cancel)
            await request
        is_done.set()

    async def scenario(queue: WorkQueue) -> None:
        queue.add(A)
        await is_done.wait()

    run_queue(work, scenario, num_workers=1)
    assert num_passes == 2


def test_an_earlier_time_wins():
    """A pass that was wanted in an hour must not hide one that is wanted now."""
    is_done = asyncio.Event()

    async def work(key: Key) -> None:
        is_done.set()

    async def scenario(queue: WorkQueue) -> None:
        queue.add(A, 3600)
        queue.add(A, 0.01)
        await is_done.wait()

    run_queue(work, scenario)


def test_progress_of_many_jobs_shares_one_bucket():
    """A thousand jobs at once would be a thousand writes in the same second."""
    throttle = ProgressThrottle(writes_per_second=20)
    granted = sum(throttle.reserve(f"job-{index}", 100.0) == 0 for index in range(1000))
    assert granted == 20
    assert throttle.reserve("job-0", 101.0) == pytest.approx(29.0)
    assert throttle.reserve("job-999", 101.0) == 0


def test_another_phase_is_shown_at_once_where_there_is_room():
    """A job that prepares data for half a minute longer than it does looks stuck; and a thousand
    that begin to train together must not keep what has to be written waiting."""
    throttle = ProgressThrottle(writes_per_second=2)
    assert throttle.reserve("job", 100.0) == 0
    assert throttle.reserve("job", 100.1, is_move=True) == 0
    assert throttle.reserve("job", 129.0) == pytest.approx(1.0)
    crowd = [throttle.reserve(f"job-{index}", 200.0, is_move=True) for index in range(10)]
    assert crowd.count(0.0) == 2


def test_a_thousand_silent_jobs_are_asked_about_in_turn():
    """For each question the API server goes through every event of the namespace: asked by all
    jobs every ten seconds, it has time for nothing else."""
    throttle = LookThrottle(looks_per_second=5)
    looks = [
        (second, name)
        for second in range(100, 160)
        for name in range(1000)
        if throttle.may_look(name, 1, float(second))
    ]
    assert len(looks) == 60 * 5
    alone = LookThrottle()
    times = [second for second in range(700) if alone.may_look("job", 1, float(second))]
    assert times == [0, 10, 30, 70, 150, 310, 630]
    assert alone.may_look("job", 2, 700.0)  # another attempt may wait for something else


def test_a_progress_map_is_news_only_with_other_words():
    """Each job's own is seen twice before a pod writes to it: a thousand passes for nothing."""
    (maps,) = [kind for kind in list_kinds(has_profiles=False) if kind.plural == "configmaps"]
    cache = Cache()
    raw: dict[str, Any] = {
        "metadata": {
            "name": "a-progress",
            "namespace": "n",
            "labels": {"loam.dev/job": "a"},
        }
    }
    assert not maps.keep(cache, raw)
    told = {**raw, "data": {name_progress_key(1): "{}"}}
    assert maps.keep(cache, told) == [Key("n", "a")]
    assert not maps.keep(cache, told)
    assert maps.keep(cache, raw) == [Key("n", "a")]


@pytest.mark.parametrize("change", [{"generation": 2}, {"uid": "v"}])
def test_a_spec_is_taken_over_only_where_it_cannot_have_changed(change: dict[str, Any]):
    """The spec of a job is copied once, not with each write of its status; but a raised budget or
    another job of the name has a spec of its own."""
    metadata = {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 1}
    held = view_job({"metadata": metadata, "spec": {"suspend": False}})
    newer = {**metadata, "resourceVersion": "2"}
    same = view_job({"metadata": newer, "spec": {"suspend": False}, "status": {}}, held)
    assert same.spec is held.spec
    other = view_job({"metadata": {**newer, **change}, "spec": {"suspend": True}}, held)
    assert other.spec == {"suspend": True}
    started = {"attempts": [{"number": 1}]}
    foreign = {"suspend": False, "ofANewerCrd": 1}
    unread = view_job({"metadata": metadata, "spec": foreign})
    assert (
        "ofANewerCrd"
        not in view_job({"metadata": newer, "spec": foreign, "status": started}, unread).spec
    )


@pytest.mark.parametrize(
    ("status", "is_woken"),
    [
        ({}, True),
        ({"phase": "Pending", "profile": {"name": "forged"}}, True),
        ({"phase": "Suspended"}, True),
        ({"phase": "Training", "profile": {"name": "gpu"}}, False),
        ({"phase": "Failed", "completionTime": "2026-01-01T00:00:00Z"}, False),
    ],
)
def test_a_profile_wakes_whoever_may_wait_for_it(status: dict[str, Any], is_woken: bool):
    """A job that is being judged as its profile comes has no phase yet: it would wait 30 s."""
    (profiles,) = [kind for kind in list_kinds(has_profiles=True) if not kind.is_namespaced]
    cache = Cache()
    cache.put_job(JobView("n", "a", "u", 1, "1", status=status))
    assert profiles.keep(cache, {}) == profiles.drop(cache, {}) == ([A] if is_woken else [])


def test_profiles_are_read_after_the_question():
    """Whoever shares a list that began before their job was known may miss the job's profile; a
    list for each of a thousand jobs would be a thousand lists."""
    began: list[asyncio.Event] = []

    class SlowApi:
        async def list(self, path: str) -> AsyncIterator[dict[str, Any]]:
            number = len(began) + 1
            began.append(asyncio.Event())
            await began[-1].wait()
            yield {"metadata": {"name": f"list-{number}"}}

    async def scenario() -> list[str]:
        reader = ProfileReader(SlowApi())
        readers = [asyncio.create_task(reader.read())]
        await asyncio.sleep(0)  # the first list is under way
        readers += [asyncio.create_task(reader.read()) for _ in range(50)]
        await asyncio.sleep(0)
        began[0].set()
        await readers[0]
        await asyncio.sleep(0)
        began[1].set()
        return [(await one)[0].name for one in readers]

    assert asyncio.run(scenario()) == ["list-1", *["list-2"] * 50]


def test_old_news_does_not_replace_new():
    """The operator's own write is in the cache before the watch tells of the state before it."""
    cache = Cache()
    cache.put_job(JobView("n", "a", "u", 2, "10"))
    cache.put_job(JobView("n", "a", "u", 1, "9"))
    assert cache.observe(A).job.generation == 2
    cache.put_job(JobView("n", "a", "u2", 1, "8"))  # created anew; versions compare per object
    assert cache.observe(A).job.uid == "u2"


def test_a_late_deletion_spares_the_successor():
    cache = Cache()
    cache.put_job(JobView("n", "a", "new", 1, "10"))
    cache.remove_job(A, "old")
    assert cache.observe(A) is not None
    cache.remove_job(A, "new")
    assert cache.observe(A) is None
    assert not cache._entries


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        '{"attempt": 1, "unknown": 1}',
        '{"attempt": "1"}',
        '{"attempt": 2}',
        '{"attempt": 1, "etaSeconds": -1}',
        '{"attempt": 1, "etaSeconds": 1e999}',
        '{"attempt": 1, "summary": "' + "x" * 65 + '"}',
        '{"attempt": 1, "result": {"exitCode": 256}}',
        '{"attempt": 1, "result": {"exitCode": 0, "metrics": {"score": NaN}}}',
        '{"attempt": 1, "stage": "train", "summary": "' + "x" * 20_000 + '"}',
        "[" * 100_000,
        '{"attempt": 1, "attempt": "\ud800"}',
    ],
)
def test_hostile_progress_is_no_progress(text):
    """Whatever a pod writes, the operator must neither believe nor fall over it."""
    assert parse_progress(text, 1) is None


def test_labels_of_others_are_no_attempts():
    for label in ("", "-1", "1.5", "x", "9" * 30, "²"):
        assert find_attempt({"metadata": {"labels": {"loam.dev/attempt": label}}}) in (0,), label


def test_pods_are_read_as_kubernetes_writes_them():
    raw = {
        "metadata": {
            "name": "p",
            "uid": "u",
            "resourceVersion": "1",
            "labels": {"loam.dev/attempt": "2", "loam.dev/role": "head"},
            "deletionTimestamp": "2026-01-01T00:00:00Z",
        },
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {"state": {"waiting": {"reason": "ContainerCreating"}}},
                {"lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}},
                {"state": {"waiting": {"reason": "CreateContainerConfigError"}}},
            ],
        },
    }
    pod = view_pod(raw)
    assert (pod.role, pod.attempt, pod.is_oom_killed) == ("head", 2, True)
    assert pod.waiting == "CreateContainerConfigError"
    assert pod.deletion_due is not None


def test_silence_is_noticed_and_forgiven():
    """A watch that a load balancer has dropped looks like a cluster in which nothing happens."""
    now = [0.0]
    health = Health(lambda: now[0], lambda: True)

    def renew(seconds: float) -> None:
        for _ in range(round(seconds / RENEW_SECONDS)):
            now[0] += RENEW_SECONDS
            health.note_renewal()

    renew(PULSE_SECONDS - 10)
    assert not health.find_trouble()
    renew(20)
    assert "no watch event" in health.find_trouble()
    health.hear_pulse()
    assert not health.find_trouble()


def test_an_outage_of_the_api_server_restarts_nobody():
    """Nothing can be heard then, by a new process neither; and one that is killed over and over
    waits ever longer to be started, also when the API server is back."""
    now = [0.0]
    health = Health(lambda: now[0], lambda: True)
    health.note_renewal()
    now[0] += 20 * PULSE_SECONDS
    assert not health.find_trouble()
    health.note_renewal()  # it is back, and the watches are just being begun anew
    assert not health.find_trouble()


def test_a_renewal_is_told_only_where_the_api_server_has_answered():
    """Counted without an answer, an outage would look like a watch that is frozen."""

    class Away:
        is_away = True

        async def find(self, path: str) -> None:
            if self.is_away:
                raise ApiError(0, "NoAnswer", "away")

        async def create(self, path: str, body: dict[str, Any]) -> None:
            pass

    async def scenario() -> list[str]:
        told: list[str] = []
        api, was_told = Away(), asyncio.Event()
        lease = Lease(api, "n", "operator-0", lambda: 0.0)

        def tell() -> None:
            told.append("away" if api.is_away else "back")
            was_told.set()

        runner = asyncio.create_task(lease.run(lambda: None, tell))
        await asyncio.sleep(0)
        api.is_away = False
        await asyncio.wait_for(was_told.wait(), 20)
        runner.cancel()
        return told

    assert asyncio.run(scenario()) == ["back"]


def make_dead_pod(name: str, attempt: int, **labels: str) -> dict[str, Any]:
    """A pod that was killed for memory, as the event of its deletion has it."""
    end = {"reason": "OOMKilled", "exitCode": 137}
    return {
        "metadata": {
            "name": name,
            "namespace": "n",
            "uid": f"uid-{name}",
            "resourceVersion": "9",
            "labels": {
                "loam.dev/job": "a",
                "loam.dev/job-uid": "u",
                "loam.dev/attempt": str(attempt),
                "loam.dev/role": "worker",
                **labels,
            },
        },
        "status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": end}}]},
    }


def test_how_a_pod_ended_is_known_after_it_is_gone():
    """KubeRay deletes a failed pod at once, and a decision that ends an attempt reads everything
    anew: by then nothing in the API server tells that the pod was killed for memory."""
    (pods,) = [kind for kind in list_kinds(has_profiles=False) if kind.plural == "pods"]
    cache = Cache()
    job = JobView("n", "a", "u", 1, "1", status={"attempt": 2})
    cache.put_job(job)
    pods.drop(cache, make_dead_pod("old", 2, **{"loam.dev/job-uid": "other"}))
    assert cache.observe(A).find_killed(2) is None
    pods.drop(cache, make_dead_pod("p", 2))
    cache.replace(Observed(job), 0.0)
    killed = cache.observe(A).find_killed(2)
    assert (killed.name, killed.exit_code) == ("p", 137)
    assert cache.observe(A).find_killed(1) is None
    cache.put_job(replace(job, resource_version="2", status={"attempt": 3}))
    assert not cache.observe(A).killed


def test_what_is_known_of_ended_pods_is_bounded_and_goes_with_the_job():
    """A thousand workers that are killed again and again would fill the operator's memory."""
    (pods,) = [kind for kind in list_kinds(has_profiles=False) if kind.plural == "pods"]
    cache = Cache()
    cache.put_job(JobView("n", "a", "u", 1, "1"))
    for number in range(1, 1000):
        pods.drop(cache, make_dead_pod(f"p{number}", number))
    assert len(cache.observe(A).killed) == 20
    cache.remove_job(A, "u")
    assert not cache._entries


def test_a_kill_before_a_queue_took_the_pods_away_is_over():
    """What begins anew has not run out of memory: the next attempt would get more for nothing."""
    (pods,) = [kind for kind in list_kinds(has_profiles=False) if kind.plural == "pods"]
    cache = Cache()
    cache.put_job(JobView("n", "a", "u", 1, "1", status={"attempt": 2}))
    pods.drop(cache, make_dead_pod("p", 2))
    cache.put_ray_job(A, RayJobView("r", "r", "u", "train", 2, deployment_status="Suspended"))
    assert not cache.observe(A).killed


def test_settings_name_what_is_missing():
    with pytest.raises(SettingsError, match="LOAM_RUNTIME_IMAGE"):
        read_settings({})
    settings = read_settings({"LOAM_RUNTIME_IMAGE": "i", "LOAM_NAMESPACES": "a, b,"})
    assert settings.namespaces == ("a", "b")


def test_a_newer_definitions_defaults_end_no_job_that_runs():
    """They are in every job that is read, as soon as the CRD is newer than the operator; whoever
    asks for a new field in a new job is told that it is not there yet."""
    spec = {**SPEC, "model": {"uri": "s3://bucket/model", "newer": 1}, "newest": "some"}
    raw = {"metadata": {"namespace": "a", "name": "b", "uid": "c", "resourceVersion": "1"}}
    started = {"attempts": [{"number": 1, "step": "prepare"}]}
    assert view_job({**raw, "spec": spec, "status": started}).spec == SPEC
    with pytest.raises(SpecError, match=r"spec\.newest"):
        check_spec(view_job({**raw, "spec": spec}))
