"""What has become of an attempt: from the objects in the cluster to one verdict."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from loam_api.exits import ExitCode
from loam_api.progress_document import ProgressDocument, ResultDocument
from loam_api.status import Attempt
from loam_operator.failures import FAILURES_BY_EXIT, FAILURES_BY_NAME, Failure
from loam_operator.log_lines import find_last_words
from loam_operator.observed import JobView, Observed, PodLog, PodView, RayJobView
from loam_operator.status import shorten
from loam_operator.steps import FINISH, TRAIN
from loam_operator.waits import describe_queue, find_wait

_EXIT_IN_MESSAGE = re.compile(r"exit code (\d{1,3})\b")
_PREPARING = ("download", "split", "synthesize", "review")
_FINISHING = ("evaluate", "judge", "report", "publish")

Outcome = Literal["absent", "active", "succeeded", "failed"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an attempt is doing, or how it ended.

    Attributes:
        state: name of the state that an active attempt is in.
        failure: class of a failed one.
        detail: words for people.
        head_uid: the head pod that runs it, once there is one.
        killed: the pod that was killed for memory, where that is the failure.
    """

    outcome: Outcome
    state: str = ""
    failure: Failure | None = None
    detail: str = ""
    exit_code: int = -1
    head_uid: str = ""
    killed: PodView | None = None
    progress: ProgressDocument | None = None

    @property
    def result(self) -> ResultDocument | None:
        return self.progress.result if self.progress else None


def judge_attempt(observed: Observed, attempt: Attempt, now: datetime) -> Verdict:
    """Judge the attempt that has not ended yet, by the precedence of `failures.FAILURES`."""
    ray_job = observed.find_ray_job(attempt.step, attempt.number)
    if ray_job is None:
        if attempt.uid or observed.find_killed(attempt.number):  # it has been there
            return _fail("HeadLost", "The attempt's RayJob is gone.")
        return Verdict("absent")
    progress = observed.find_progress(ray_job)
    if ray_job.is_over and ray_job.job_status == "SUCCEEDED" and _says_success(progress):
        return Verdict("succeeded", progress=progress)
    if attempt.uid and ray_job.uid != attempt.uid:
        return _fail("HeadLost", "The attempt's RayJob was replaced by another.")
    if ray_job.is_deleting:
        return _fail("HeadLost", "The attempt's RayJob is being deleted.")
    if ray_job.is_held:
        return Verdict("active", "Queued", detail=describe_queue(observed.hints))
    return _judge_pods(observed, attempt, ray_job, progress, now)


def _judge_pods(
    observed: Observed,
    attempt: Attempt,
    ray_job: RayJobView,
    progress: ProgressDocument | None,
    now: datetime,
) -> Verdict:
    """An attempt whose RayJob is there and its own."""
    pods = observed.list_own_pods(attempt.number)
    killed = observed.find_killed(attempt.number)
    head, loss = ("", "") if ray_job.is_over else _find_head(pods, attempt)
    if loss and (killed is None or killed.role != "head"):
        return _fail("HeadLost", loss)
    if killed is not None:
        return _judge_kill(killed)
    if ray_job.is_over:
        return _judge_end(ray_job, progress, observed.logs or ())
    state, detail = _find_state(observed, attempt, ray_job, pods, progress, now)
    return Verdict("active", state, detail=detail, head_uid=head, progress=progress)


def _fail(name: str, detail: str, exit_code: int = -1) -> Verdict:
    return Verdict("failed", failure=FAILURES_BY_NAME[name], detail=detail, exit_code=exit_code)


def _judge_kill(pod: PodView) -> Verdict:
    words = f"The {pod.role} pod {pod.name} ran out of memory."
    code = pod.exit_code if 0 <= pod.exit_code <= 255 else -1
    return replace(_fail("HostOutOfMemory", words, code), killed=pod)


def _says_success(progress: ProgressDocument | None) -> bool:
    return bool(progress and progress.result and progress.result.exit_code == ExitCode.DONE)


def _judge_end(
    ray_job: RayJobView, progress: ProgressDocument | None, logs: Iterable[PodLog]
) -> Verdict:
    """A RayJob that KubeRay has finished with, other than by success."""
    result = progress.result if progress else None
    if ray_job.deployment_status == "ValidationFailed":
        return _fail("RayJobInvalid", ray_job.message)
    if ray_job.job_status == "SUCCEEDED" and ray_job.deployment_status == "Complete":
        words = "The RayJob succeeded, but left no valid result."
        return _fail("NoResult", _add_last_words(words, logs))
    if result is None or result.exit_code == ExitCode.DONE:
        found = _EXIT_IN_MESSAGE.search(ray_job.message)
        code = int(found[1]) if found else -1
        words = ray_job.message or ray_job.reason or "The RayJob failed without a word."
    else:
        code, words = result.exit_code, result.message
    known = [failure for exit_code, failure in FAILURES_BY_EXIT.items() if exit_code == code]
    name = known[0].name if known else "Unknown"
    if not known:
        words = _add_last_words(words, logs)
    verdict = _fail(name, words, code if 0 <= code <= 255 else -1)
    return replace(verdict, progress=progress)


def _add_last_words(words: str, logs: Iterable[PodLog]) -> str:
    """The log's last lines are what a reader would look for next; what is long gives way."""
    last = find_last_words(logs)
    return f"{shorten(words, 200)} The log ends: {last}" if last else words


def _find_head(pods: list[PodView], attempt: Attempt) -> tuple[str, str]:
    """UID of the head pod that works for the attempt, or else the words for its loss."""
    heads = [pod for pod in pods if pod.role == "head"]
    alive = [pod for pod in heads if pod.is_staying]
    if not attempt.head_uid:
        return (alive[0].uid if alive else ""), ""
    if any(pod.uid == attempt.head_uid for pod in alive):
        return attempt.head_uid, ""
    return "", "The head pod is gone." if not alive else "The head pod was replaced by another."


def _find_state(
    observed: Observed,
    attempt: Attempt,
    ray_job: RayJobView,
    pods: list[PodView],
    progress: ProgressDocument | None,
    now: datetime,
) -> tuple[str, str]:
    """The state of an attempt that runs, and what it waits for."""
    stage = progress.stage if progress else None
    if stage or ray_job.job_status == "RUNNING":
        if attempt.step == FINISH:
            return "Finishing", ""
        if attempt.step != TRAIN:
            return "Preparing", ""
        if stage in _FINISHING:
            return "Finishing", ""
        # Another step has made the rows, as a rule; then there is nothing left to prepare.
        is_early = stage is None or stage in _PREPARING
        return ("Preparing" if is_early and _writes_rows(observed.job) else "Training"), ""
    return find_wait(ray_job, pods, observed.hints, now) or ("Starting", "")


def _writes_rows(job: JobView) -> bool:
    """Whether the base model writes rows in the very step that trains on them."""
    synthesis = job.spec.get("synthesis") or {}
    teacher = (synthesis.get("teacher") or {}).get("kind", "self")
    workers = (job.spec.get("compute") or {}).get("workers") or {}
    return bool(synthesis) and teacher == "self" and workers.get("max", 1) == 1
