"""A job, or its whole namespace, is deleted in each of its phases by a user who does not ask.

The test plays KubeRay and the pods; garbage collector and namespace controller are real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.tools.control_plane import ControlPlane
from tests.tools.operator_process import RUN_KEY, OperatorProcess, Stage, run_operator
from tests.tools.remote_teacher import TEACHER
from tests.tools.waiting import wait_until

from loam_operator.states import STATES

PHASES = sorted({state.phase for state in STATES})
POLICIES = ("Background", "Foreground")
REVIEWED = {
    "targetCount": 10,
    "teacher": TEACHER,
    "spotCheck": {"required": True},
}


def stop_at_start(stage: Stage, name: str) -> None:
    stage.await_ray_job(f"{name}-prepare-a1")


def stop_in_queue(stage: Stage, name: str) -> None:
    stop_at_start(stage, name)
    stage.set_ray_job(f"{name}-prepare-a1", jobDeploymentStatus="Suspended")


def stop_preparing(stage: Stage, name: str) -> None:
    ray_job = stage.await_ray_job(f"{name}-prepare-a1")
    stage.create_pod(f"{name}-prepare-a1", ray_job, "head")
    stage.set_ray_job(f"{name}-prepare-a1", jobStatus="RUNNING", jobDeploymentStatus="Running")


def stop_training(stage: Stage, name: str, word: str = "train") -> None:
    stop_at_start(stage, name)
    stage.succeed(f"{name}-prepare-a1", 1)
    ray_job = stage.await_ray_job(f"{name}-train-a2")
    for role in ("head", "worker"):
        stage.create_pod(f"{name}-train-a2", ray_job, role)
    stage.set_ray_job(f"{name}-train-a2", jobStatus="RUNNING", jobDeploymentStatus="Running")
    stage.say(f"{name}-train-a2", 2, stage=word, summary=f"{word} 1 %")


def stop_finishing(stage: Stage, name: str) -> None:
    stop_training(stage, name, "evaluate")


def succeed(stage: Stage, name: str) -> None:
    stop_at_start(stage, name)
    stage.publish(f"{name}-prepare-a1", 1)


def fail(stage: Stage, name: str) -> None:
    stop_at_start(stage, name)
    stage.fail(f"{name}-prepare-a1", 1, 11, "Access is refused.")


def suspend(stage: Stage, name: str) -> None:
    stop_preparing(stage, name)
    stage.change_job(name, {"spec": {"suspend": True}})


def stop_for_review(stage: Stage, name: str) -> None:
    stop_at_start(stage, name)
    stage.succeed(f"{name}-prepare-a1", 1, run_key=RUN_KEY)


def stop_before_start(stage: Stage, name: str) -> None:
    """Somebody else's object is in the way."""


WAYS: dict[str, Callable[[Stage, str], None]] = {
    "Pending": stop_before_start,
    "Queued": stop_in_queue,
    "Starting": stop_at_start,
    "Preparing": stop_preparing,
    "AwaitingReview": stop_for_review,
    "Training": stop_training,
    "Finishing": stop_finishing,
    "Succeeded": succeed,
    "Failed": fail,
    "Suspended": suspend,
}


def bring_to(stage: Stage, name: str, phase: str) -> None:
    """A job that stands in a phase."""
    if phase == "Pending":
        stage.create_foreign("ConfigMap", f"{name}-manifest")
    stage.apply(name, **({"synthesis": REVIEWED} if phase == "AwaitingReview" else {}))
    WAYS[phase](stage, name)
    wait_until(lambda: stage.get_job(name).get("status", {}).get("phase") == phase, phase)


@pytest.fixture(scope="module")
def places(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[OperatorProcess, Stage, Stage]]:
    """An operator, a namespace that stays and one that goes."""
    stays, goes = control_plane.create_namespace(), control_plane.create_namespace()
    settings = {"LOAM_NAMESPACES": f"{stays},{goes}", "POD_NAMESPACE": stays}
    log = tmp_path_factory.mktemp("deletion") / "operator.log"
    with run_operator(control_plane.kubeconfig, log, **settings) as operator:
        yield operator, Stage(control_plane.client, stays), Stage(control_plane.client, goes)


def see_it_work(stage: Stage, name: str) -> None:
    """The operator has gone past all that was told before: another job's RayJob is there."""
    stage.apply(name)
    stage.await_ray_job(f"{name}-prepare-a1")


def test_the_table_has_every_phase():
    """A new phase without a way to it would be deleted in no test."""
    assert sorted(WAYS) == PHASES


@pytest.mark.parametrize("phase", PHASES)
def test_a_deleted_job_takes_its_children_and_leaves_others(
    places: tuple[OperatorProcess, Stage, Stage], phase: str
):
    """An operator that took the end of a child for a loss would make it anew, for a job that is no
    more: pods that nobody knows of, with a GPU. And nothing may wait for the operator to go."""
    _, stage, _ = places
    names = {policy: f"{phase}-{policy}".lower()[:20] for policy in POLICIES}
    for name in names.values():
        bring_to(stage, name, phase)
    for policy, name in names.items():
        stage.delete_job(name, policy)

    def list_left() -> list[str]:
        return [one["metadata"]["name"] for one in stage.list_jobs()]

    wait_until(lambda: not set(names.values()) & set(list_left()), "the jobs to go")
    left = [("V1ConfigMap", f"{name}-manifest") for name in names.values()]
    for name in names.values():
        wait_until(lambda name=name: not stage.list_children(name), f"{name}'s children to go")
    see_it_work(stage, f"{phase}-next".lower())
    for name in names.values():
        assert not stage.list_children(name)
    maps = {
        one.metadata.name for one in stage.core.list_namespaced_config_map(stage.namespace).items
    }
    assert {name for _, name in left} & maps == (
        {n for _, n in left} if phase == "Pending" else set()
    )


def test_a_namespace_goes_with_jobs_in_every_phase(
    control_plane: ControlPlane, places: tuple[OperatorProcess, Stage, Stage]
):
    """A namespace that hangs in Terminating is every platform team's nightmare; an operator that
    goes on creating in it is one reason."""
    operator, stays, goes = places
    for phase in PHASES:
        bring_to(goes, phase.lower(), phase)
    control_plane.delete_namespace(goes.namespace)  # returns once it is gone
    jobs = f'loam_operator_jobs{{job_namespace="{goes.namespace}"'
    wait_until(lambda: operator.count(jobs) == 0, "the operator to have forgotten the jobs")
    assert operator.read("healthz") is not None
    see_it_work(stays, "afterwards")
