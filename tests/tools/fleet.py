"""Many jobs at once through their whole lives: KubeRay and the pods played, each life by a plan."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kubernetes.client.exceptions import ApiException
from tests.tools.history import History
from tests.tools.life_rules import LifeRules, is_alive
from tests.tools.operator_process import Stage, read_reason
from tests.tools.waiting import wait_until
from urllib3.exceptions import HTTPError

from loam_operator.failures import FAILURES_BY_EXIT
from loam_operator.names import ATTEMPT_LABEL, JOB_LABEL

_ENDS = ("Succeeded", "Failed")
_DONE, _PUBLISHED, _HEAD_LOST = "done", "published", "head lost"


@dataclass(frozen=True, slots=True)
class Plan:
    """A life.

    Attributes:
        attempts: how each ends, in order: in a word, or with an exit code of the runtime.
        reason: of the job's end.
    """

    attempts: tuple[str | int, ...]
    reason: str = "Succeeded"

    def list_reasons(self) -> list[str]:
        """What the status says of the attempts at last."""
        words = {_DONE: "Succeeded", _PUBLISHED: "Succeeded", _HEAD_LOST: "HeadLost"}
        codes = {int(code): failure.name for code, failure in FAILURES_BY_EXIT.items()}
        known = {**words, **codes, 1: "Unknown"}
        return [known[end] for end in self.attempts]


PLANS = {
    "plain": Plan((_DONE, _PUBLISHED)),
    "again": Plan((_DONE, 14, _PUBLISHED)),
    "lost": Plan((_DONE, _HEAD_LOST, _PUBLISHED)),
    "poor": Plan((10,), "BadInput"),
    "weak": Plan((1, 1), "Unknown"),
}


class Fleet:
    """The jobs of one namespace.

    Args:
        etcd_url: where the truth is.
        num_each: jobs of each plan.
    """

    def __init__(self, stage: Stage, etcd_url: str, num_each: int) -> None:
        self.names = [f"{plan}-{index}" for index in range(num_each) for plan in PLANS]
        self._stage = stage
        self._history = History(etcd_url, stage.namespace)

    def apply(self) -> None:
        """Create all jobs."""
        for name in self.names:
            self._stage.apply(name)

    def play(self, trouble: Iterable[None] = ()) -> None:
        """Play KubeRay until each job has ended, then look back at every write.

        Args:
            trouble: goes a step on before each look at the cluster.

        Raises:
            AssertionError: a job has not ended as planned, or a write broke a rule.
        """

        steps = iter(trouble)

        def look() -> bool:
            next(steps, None)
            return self._play_once()

        try:
            wait_until(look, "all jobs to end", timeout_seconds=600)
        except TimeoutError as error:
            states = {job["metadata"]["name"]: read_reason(job) for job in self._stage.list_jobs()}
            raise TimeoutError(f"{error}; they are {states}") from error
        for job in self._stage.list_jobs():
            plan = _find_plan(job["metadata"]["name"])
            reasons = [one["reason"] for one in job["status"]["attempts"]]
            assert (read_reason(job), reasons) == (plan.reason, plan.list_reasons()), job["status"]
        rules = LifeRules()
        rules.check(self._history.list_changes())
        assert len(rules.launched) == sum(len(_find_plan(name).attempts) for name in self.names)

    def _play_once(self) -> bool:
        with contextlib.suppress(ApiException, HTTPError):  # the API server may be away just now
            jobs = {job["metadata"]["name"]: job for job in self._stage.list_jobs()}
            for ray_job in self._stage.list_ray_jobs():
                if is_alive(ray_job):
                    self._advance(ray_job, jobs[ray_job["metadata"]["labels"][JOB_LABEL]])
            return all(job.get("status", {}).get("phase") in _ENDS for job in jobs.values())
        return False

    def _advance(self, ray_job: dict[str, Any], job: dict[str, Any]) -> None:
        """Bring a RayJob one step on: it runs, then it ends as the plan has it."""
        name = ray_job["metadata"]["name"]
        number = int(ray_job["metadata"]["labels"][ATTEMPT_LABEL])
        end = _find_plan(job["metadata"]["name"]).attempts[number - 1]
        if ray_job.get("status", {}).get("jobStatus") != "RUNNING":
            if end == _HEAD_LOST and f"{name}-head" not in self._list_pods():
                self._stage.create_pod(name, ray_job, "head")
            self._stage.set_ray_job(name, jobStatus="RUNNING", jobDeploymentStatus="Running")
        elif end == _HEAD_LOST:
            if job["status"]["attempts"][-1].get("headUid"):  # before that nobody can miss it
                self._stage.delete_pod(f"{name}-head")
        elif isinstance(end, int):
            self._stage.fail(name, number, end, "As planned.")
        elif end == _PUBLISHED:
            self._stage.publish(name, number)
        else:
            self._stage.succeed(name, number)

    def _list_pods(self) -> list[str]:
        found = self._stage.core.list_namespaced_pod(self._stage.namespace).items
        return [pod.metadata.name for pod in found]


def _find_plan(job: str) -> Plan:
    return PLANS[job.rpartition("-")[0]]


@contextlib.contextmanager
def disturb(act: Callable[[random.Random], None], seed: int, most_seconds: float) -> Iterator[None]:
    """Do something beside the block, again and again after a random pause.

    Not for what starts a process: it would end with the thread that has started it.
    """
    chance, is_over, errors = random.Random(seed), threading.Event(), list[Exception]()

    def run() -> None:
        try:
            while not is_over.wait(chance.uniform(0, most_seconds)):
                act(chance)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    if errors:
        raise errors[0]
