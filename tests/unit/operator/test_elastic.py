"""An elastic job starts with the workers for which there is room, and grows when there is more."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.operator.lane import Lane

from loam_operator.decision import ResizeWorkers
from loam_operator.elastic import START_WITHOUT_AFTER
from loam_operator.names import QUEUE_NAME_LABELS
from loam_operator.observed import PodView, RayJobView

TRAINS = "job-train-a2"


class Elastic(Lane):
    """A job that may train with one or two workers, whose pods have just been made."""

    def __init__(self, *, room: int = 100, quota: int = 100, **workers: int) -> None:
        super().__init__(compute={"workers": {"min": 1, "max": 2, **workers}})
        self.world.room, self.world.quota = room, quota
        self.act_until(lambda: TRAINS in self.world.ray_jobs, "a training")
        self.act()

    def go_on(self, num_rounds: int) -> None:
        for _ in range(num_rounds):
            self.work(1)
            self.act()

    @property
    def ray_job(self) -> RayJobView:
        return self.world.ray_jobs[TRAINS]

    @property
    def sizes(self) -> list[int]:
        """Numbers of workers that were asked for, in turn."""
        return [resize.num_workers for resize in self.world.resizes]

    def find_late(self) -> PodView:
        """The one pod for which there is no room."""
        (late,) = [pod for pod in self.world.pods.values() if pod.unschedulable]
        return late


def test_workers_that_have_come_do_not_wait_for_ever():
    """Two nodes' GPUs, of which one is free: it would be held idle until the other is, which may be
    days. Behind the patience the job starts; it asks for the rest once, and gets it when it can."""
    lane = Elastic(room=1)
    late = lane.find_late()
    lane.act_until(lambda: lane.world.resizes, "smaller")
    assert late.waiting_since is not None
    waited = lane.world.now() - late.waiting_since
    assert START_WITHOUT_AFTER <= waited <= START_WITHOUT_AFTER + timedelta(seconds=20)
    assert lane.world.resizes == [ResizeWorkers(lane.ray_job.cluster, 1, (late.name,))]
    assert lane.state == "Unschedulable"
    lane.act_until(lambda: len(lane.sizes) == 2, "larger")
    assert lane.ray_job.job_status == "RUNNING"
    assert lane.world.resizes[1] == ResizeWorkers(lane.ray_job.cluster, 2)
    lane.run_until("Succeeded")
    assert lane.sizes == [1, 2]


def test_a_restarted_operator_still_asks_for_the_rest():
    """That it gave workers up is in the cluster, not in its memory."""
    lane = Elastic(room=1)
    lane.act_until(lambda: lane.world.resizes, "smaller")
    lane.act()
    assert lane.ray_job.job_status == "RUNNING"
    lane.operator.restart()
    lane.work()
    assert lane.sizes == [1, 2]


@pytest.mark.parametrize(("room", "workers"), [(0, {}), (1, {"min": 2}), (2, {"min": 2, "max": 3})])
def test_fewer_than_it_needs_are_no_start(room: int, workers: dict[str, int]):
    """Not even one worker, or a job that is not elastic."""
    lane = Elastic(room=room, **workers)
    is_enough = room >= workers.get("min", 1)
    lane.go_on(20)
    assert bool(lane.sizes) == is_enough
    assert (lane.state == "Unschedulable") == (not is_enough)


def test_who_has_a_node_is_waited_for():
    """It pulls its image, for minutes perhaps: to start without it would be to start over when it
    comes. When it is there, only the one without room is given up."""
    lane = Elastic(room=1, max=3)
    placed, late = [pod for pod in lane.world.pods.values() if pod.unschedulable]
    lane.world.update_pod(placed.name, unschedulable="", node_since=lane.world.now())
    lane.go_on(20)
    assert lane.sizes == []
    lane.world.update_pod(placed.name, phase="Running")
    lane.work(1)
    assert lane.world.resizes == [ResizeWorkers(lane.ray_job.cluster, 2, (late.name,))]


def test_a_head_that_is_not_up_is_waited_for():
    """Nothing can start without it; what has room by then may be more."""
    lane = Elastic(room=1)
    head = lane.world.find_head(TRAINS)
    lane.world.update_pod(head.name, phase="Pending")
    lane.go_on(20)
    assert lane.sizes == []


def test_what_has_been_asked_for_is_not_asked_for_again():
    """KubeRay copies its numbers to the RayJob a few seconds late; its pods are there before."""
    lane = Elastic(room=1)
    lane.act_until(lambda: lane.sizes == [1, 2], "larger")
    lane.world._reconcile_pods(TRAINS)
    lane.world.update_ray_job(TRAINS, desired_workers=1)
    lane.work()
    assert lane.sizes == [1, 2]


def test_a_refused_pod_is_not_waited_for_either():
    """A quota with room for one worker: KubeRay is refused the other as long as the job runs."""
    lane = Elastic(quota=1)
    lane.act_until(lambda: lane.sizes == [1, 2], "larger")
    assert lane.world.resizes[0] == ResizeWorkers(lane.ray_job.cluster, 1)
    lane.run_until("Succeeded")
    assert lane.sizes == [1, 2]


def test_a_queue_admits_a_job_as_a_whole():
    """Workers that Kueue has counted must not come and go without it."""
    lane = Elastic(room=1)
    lane.world.update_job(queue_labels={QUEUE_NAME_LABELS[0]: "team"})
    lane.go_on(20)
    assert lane.sizes == []
