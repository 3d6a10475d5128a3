"""One attempt at a step, inside a Ray cluster: what the operator's RayJob starts on the head pod.

Before anything else the attempt is claimed in the output's store: where KubeRay has replaced the
head pod and submits the same attempt once more, the second one stops at the first one's claim.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_api.exits import ExitCode
from loam_api.progress_document import ResultDocument
from loam_api.status import MAX_MESSAGE_LENGTH
from loam_runtime.cluster_steps import describe_cost, finish, prepare, use_workers
from loam_runtime.errors import FencedError, LoamError, RunTakenError
from loam_runtime.observability.config_map import ConfigMapProgress, ConfigMapWriter
from loam_runtime.observability.progress import PlainProgress
from loam_runtime.pipeline import STAGES, Try
from loam_runtime.storage.base import ConflictError
from loam_runtime.storage.registry import open_store
from loam_runtime.training.drain import lead_pod

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJob, FineTuneJobSpec

ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the operator and KubeRay say of this attempt, by the environment.

    Attributes:
        step: prepare, generate, train or finish.
        number: of the attempt, from 1.
        run_key: of the run, as the step `prepare` found it; "" before.
        job_uid: of the FineTuneJob.
        pod_uid: of this head pod.
        ray_job_id: Ray's name for this submission; new when a queue admits the pods again.
        progress: namespace and name of the job's progress ConfigMap.
        micro_batch_divisor: how much smaller micro-batches are than planned.
        review: what a person decided about the synthetic rows, as JSON; "" for nothing.
    """

    step: str
    number: int
    run_key: str
    job_uid: str
    pod_uid: str
    ray_job_id: str
    progress: str
    micro_batch_divisor: int
    review: str = ""


def read_attempt(environment: Mapping[str, str] = os.environ) -> Attempt:
    """The attempt of this process.

    Raises:
        LoamError: the process was not started by the operator.
    """
    try:
        config = json.loads(environment.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
        return Attempt(
            step=environment["LOAM_STEP"],
            number=int(environment["LOAM_ATTEMPT"]),
            run_key=environment.get("LOAM_RUN_KEY", ""),
            job_uid=environment["LOAM_JOB_UID"],
            pod_uid=environment["LOAM_POD_UID"],
            ray_job_id=config.get("metadata", {}).get("job_submission_id", ""),
            progress=environment["LOAM_PROGRESS"],
            micro_batch_divisor=int(environment.get("LOAM_MICRO_BATCH_DIVISOR", "1")),
            review=environment.get("LOAM_REVIEW", ""),
        )
    except (KeyError, ValueError) as exc:
        raise LoamError(
            f"This is not an attempt that the operator started: {exc}.",
            remedy="Use `loam run` outside of a cluster.",
        ) from exc


def claim_attempt(job: FineTuneJob, attempt: Attempt) -> None:
    """Be the one process that ever works for this attempt's pods.

    Raises:
        FencedError: another head pod has claimed the attempt.
    """
    store = open_store(job.spec.output.uri)
    name = f"a{attempt.number}-{attempt.ray_job_id or 'local'}.json"
    key = f"claims/{attempt.job_uid}/{name}"
    claim = json.dumps({"headUid": attempt.pod_uid}).encode()
    try:
        store.put(key, claim, if_none_match=True)
    except ConflictError as exc:
        if json.loads(store.get(key))["headUid"] != attempt.pod_uid:
            raise FencedError(
                f"Attempt {attempt.number} was begun by another head pod, which is lost.",
                remedy="The operator starts a new attempt.",
            ) from exc


def run_attempt(job: FineTuneJob, base_dir: Path, attempt: Attempt) -> ResultDocument:
    """Do the attempt's step, telling the operator how far it is and how it ended.

    Raises:
        LoamError: as `run_job`; the operator has been told.
    """
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    address = f"[{host}]" if ":" in host else host
    writer = ConfigMapWriter(f"https://{address}:{port}", attempt.progress, ACCOUNT_DIR)
    shown = PlainProgress(STAGES)
    progress = ConfigMapProgress(shown, writer.write, attempt.number, attempt.ray_job_id)
    try:
        claim_attempt(job, attempt)
        with lead_pod():
            result = _do_step(job, base_dir, attempt, progress)
    except BaseException as exc:
        failure = describe_failure(exc, job.spec)
        if failure is not None:
            progress.finish(failure)
        raise
    progress.finish(result)
    return result


def _do_step(
    job: FineTuneJob, base_dir: Path, attempt: Attempt, progress: ConfigMapProgress
) -> ResultDocument:
    this_try = Try(attempt.number, attempt.job_uid, attempt.ray_job_id)
    if attempt.step == "prepare":
        return prepare(job, base_dir, this_try, progress)
    if attempt.step == "finish":
        return finish(job, base_dir, this_try, progress, run_key=attempt.run_key)
    return use_workers(
        job,
        base_dir,
        this_try,
        progress,
        step=attempt.step,
        run_key=attempt.run_key,
        micro_batch_divisor=attempt.micro_batch_divisor,
        review=attempt.review,
    )


def describe_failure(exc: BaseException, spec: FineTuneJobSpec) -> ResultDocument | None:
    """What the operator is told of an attempt's end; None where it is not this process's to tell.

    Who is fenced out by the job's own later pods would write over their words. Another job has a
    place of its own to speak.
    """
    if isinstance(exc, FencedError) and not isinstance(exc, RunTakenError):
        return None
    code = exc.exit_code if isinstance(exc, LoamError) else ExitCode.UNKNOWN
    if isinstance(exc, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    message = str(exc) if isinstance(exc, LoamError) else f"{type(exc).__name__}: {exc}"
    return ResultDocument(
        exit_code=int(code),
        message=message[:MAX_MESSAGE_LENGTH],
        **_find_spending(exc, spec),
    )


def _find_spending(exc: BaseException, spec: FineTuneJobSpec) -> dict[str, Any]:
    """What the run's teacher has cost and was asked for, as far as the failure knows."""
    if not isinstance(exc, LoamError):
        return {}
    return {
        "cost": describe_cost(spec, exc.spent_cost),
        "teacher_requests": exc.spent_requests,
        "teacher_tokens": exc.spent_tokens,
    }
