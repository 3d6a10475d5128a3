"""An elastic job starts with the workers for which there is room, and grows when there is more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.operator.lane import Lane

from loam_operator.decision import ResizeWorkers
from loam_operator.elastic import START_WITHOUT_AFTER
from loam_operator.names import QUEUE_NAME_LABELS
from loam_operator.observed import JobView

PATIENCE = START_WITHOUT_AFTER.total_seconds()


class Elastic(Lane):
    """A job that may train with one or two workers, at the start of its training.

    Attributes:
        resizes: all that were asked for.
        trained_at: the world's clock when the training's RayJob was made.
    """

    def __init__(self, room: int, **workers: int) -> None:
        super().__init__(compute={"workers": {"min": 1, "max": 2, **workers}})
        self.world.room = room
        self.resizes: list[ResizeWorkers] = []
        resize_workers = self.world.resize_workers

        async def note(job: JobView, resize: ResizeWorkers) -> None:
            self.resizes.append(resize)
            await resize_workers(job, resize)

        self.world.resize_workers = note  # type: ignore[method-assign]
        self.go_on_until(lambda: self.ray_job)
        self.trained_at = self.world.seconds

    def go_on(self, num_rounds: int = 1) -> None:
        for _ in range(num_rounds):
            self.work(1)
            self.act()

    def go_on_until(self, is_so: Callable[[], Any]) -> None:
        for _ in range(50):
            if is_so():
                return
            self.go_on()
        raise AssertionError(f"never so: {self.world.transitions}")

    @property
    def ray_job(self) -> Any:
        return self.world.ray_jobs.get("job-train-a2")

    @property
    def num_workers(self) -> int:
        pods = self.world.list_pods("job-train-a2")
        return sum(pod.role == "worker" for pod in pods)


def test_workers_that_have_come_do_not_wait_for_ever():
    """Two nodes' GPUs, of which one is free: it would be held idle until the other is, which may be
    days. Behind the patience the job starts; it asks for the rest once, and gets it when it can."""
    lane = Elastic(room=1)
    lane.go_on_until(lambda: lane.resizes)
    assert PATIENCE <= lane.world.seconds - lane.trained_at <= PATIENCE + 20
    (late,) = lane.resizes[0].unwanted
    assert lane.resizes == [ResizeWorkers(lane.ray_job.cluster, 1, (late,))]
    assert late not in lane.world.pods
    assert lane.state == "Unschedulable"
    lane.go_on_until(lambda: len(lane.resizes) == 2)
    assert lane.ray_job.job_status == "RUNNING"
    assert lane.resizes[1] == ResizeWorkers(lane.ray_job.cluster, 2)
    lane.run_until("Succeeded")
    assert len(lane.resizes) == 2


def test_a_restarted_operator_still_asks_for_the_rest():
    """That it gave workers up is in the cluster, not in its memory."""
    lane = Elastic(room=1)
    lane.go_on_until(lambda: lane.ray_job.job_status == "RUNNING")
    lane.operator.restart()
    lane.work()
    assert [one.num_workers for one in lane.resizes] == [1, 2]


@pytest.mark.parametrize(("room", "workers"), [(0, {}), (1, {"min": 2}), (2, {"min": 2, "max": 3})])
def test_fewer_than_it_needs_are_no_start(room: int, workers: dict[str, int]):
    """Not even one worker, or a job that is not elastic."""
    lane = Elastic(room, **workers)
    is_enough = room >= workers.get("min", 1)
    lane.go_on(20)
    assert bool(lane.resizes) == is_enough
    assert (lane.state == "Unschedulable") == (not is_enough)


def test_who_has_a_node_is_waited_for():
    """It pulls its image, for minutes perhaps: given up, it would begin anew."""
    lane = Elastic(room=1)
    (late,) = [pod for pod in lane.world.pods.values() if pod.unschedulable]
    lane.world.update_pod(late.name, unschedulable="", node_since=lane.world.now())
    lane.go_on(20)
    assert lane.resizes == []


def test_a_refused_pod_is_not_waited_for_either():
    """A quota with room for one worker: KubeRay is refused the other as long as the job runs."""
    lane = Elastic(room=1)
    (late,) = [pod for pod in lane.world.pods.values() if pod.unschedulable]
    del lane.world.pods[late.name]
    lane.world._reconcile_pods = lambda name: None  # type: ignore[method-assign]
    words = "exceeded quota: team"
    refused = {"refusal": words, "refused_since": lane.world.now()}
    lane.world.update_ray_job("job-train-a2", **refused)
    lane.go_on(20)
    assert lane.resizes[0] == ResizeWorkers(lane.ray_job.cluster, 1)


def test_a_queue_admits_a_job_as_a_whole():
    """Workers that Kueue has counted must not come and go without it."""
    lane = Elastic(room=1)
    lane.world.update_job(queue_labels={QUEUE_NAME_LABELS[0]: "team"})
    lane.go_on(20)
    assert lane.resizes == []
