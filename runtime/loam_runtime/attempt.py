"""A job as one attempt inside a Ray cluster: what the operator's RayJob starts on the head pod.

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
from loam_api.ports import METRICS_PORT
from loam_api.progress_document import ResultDocument
from loam_api.status import MAX_MESSAGE_LENGTH, Metrics
from loam_runtime.errors import FencedError, LoamError
from loam_runtime.observability.config_map import ConfigMapProgress, ConfigMapWriter
from loam_runtime.observability.progress import PlainProgress
from loam_runtime.pipeline import STAGES, RunOutcome, Try, run_job
from loam_runtime.storage.base import ConflictError
from loam_runtime.storage.registry import open_store
from loam_runtime.storage.run_store import RunStore

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJob

ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the operator and KubeRay say of this attempt, by the environment.

    Attributes:
        number: of the attempt, from 1.
        job_uid: of the FineTuneJob.
        pod_uid: of this head pod.
        ray_job_id: Ray's name for this submission; new when a queue admits the pods again.
        progress: namespace and name of the attempt's ConfigMap.
        micro_batch_divisor: how much smaller micro-batches are than planned.
    """

    number: int
    job_uid: str
    pod_uid: str
    ray_job_id: str
    progress: str
    micro_batch_divisor: int


def read_attempt(environment: Mapping[str, str] = os.environ) -> Attempt:
    """The attempt of this process.

    Raises:
        LoamError: the process was not started by the operator.
    """
    try:
        config = json.loads(environment.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
        return Attempt(
            number=int(environment["LOAM_ATTEMPT"]),
            job_uid=environment["LOAM_JOB_UID"],
            pod_uid=environment["LOAM_POD_UID"],
            ray_job_id=config.get("metadata", {}).get("job_submission_id", ""),
            progress=environment["LOAM_PROGRESS"],
            micro_batch_divisor=int(environment.get("LOAM_MICRO_BATCH_DIVISOR", "1")),
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


def run_attempt(job: FineTuneJob, base_dir: Path, attempt: Attempt) -> RunOutcome:
    """Run the job, telling the operator how far it is and how it ended.

    Raises:
        LoamError: as `run_job`; the operator has been told.
    """
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    address = f"[{host}]" if ":" in host else host
    writer = ConfigMapWriter(f"https://{address}:{port}", attempt.progress, ACCOUNT_DIR)
    progress = ConfigMapProgress(PlainProgress(STAGES), writer.write, attempt.number)
    try:
        outcome = _run_claimed(job, base_dir, attempt, progress)
    except FencedError:
        raise  # another one is at work, and its word counts
    except BaseException as exc:
        progress.finish(_describe_failure(exc))
        raise
    progress.finish(describe_success(job, outcome))
    return outcome


def _run_claimed(
    job: FineTuneJob, base_dir: Path, attempt: Attempt, progress: ConfigMapProgress
) -> RunOutcome:
    claim_attempt(job, attempt)
    this_try = Try(attempt.number, attempt.job_uid, attempt.ray_job_id, attempt.micro_batch_divisor)
    return run_job(
        job,
        base_dir=base_dir,
        metrics_port=METRICS_PORT,
        metrics_host="0.0.0.0",  # Prometheus asks from another pod
        this_try=this_try,
        progress=progress,
    )


def _describe_failure(exc: BaseException) -> ResultDocument:
    code = exc.exit_code if isinstance(exc, LoamError) else ExitCode.UNKNOWN
    if isinstance(exc, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    message = str(exc) if isinstance(exc, LoamError) else f"{type(exc).__name__}: {exc}"
    return ResultDocument(exit_code=int(code), message=message[:MAX_MESSAGE_LENGTH])


def describe_success(job: FineTuneJob, outcome: RunOutcome) -> ResultDocument:
    """What the operator shows of a published run."""
    run = RunStore(open_store(job.spec.output.uri), outcome.run["runKey"])
    plan = _read_result(run, "plan")
    verdict = outcome.run["verdict"] or {}
    return ResultDocument(
        exit_code=int(ExitCode.DONE),
        message=str(verdict.get("text", ""))[:MAX_MESSAGE_LENGTH],
        method=plan["method"],
        method_reason=_find_reason(plan)[:MAX_MESSAGE_LENGTH],
        metrics=_find_metrics(_read_result(run, "baselines"), _read_result(run, "evaluate")),
    )


def _read_result(run: RunStore, stage: str) -> dict[str, Any]:
    return dict(json.loads(run.get(f"stages/{stage}.json"))["result"])


def _find_reason(plan: dict[str, Any]) -> str:
    reasons = [one for one in plan.get("reasons", []) if one["field"] == "training.method"]
    return str(reasons[0]["why"]) if reasons else ""


def _find_metrics(before: dict[str, Any], after: dict[str, Any]) -> Metrics | None:
    """The decisive metric of the adapter and of the best baseline."""
    verdict = after.get("verdict") or {}
    difference = verdict.get("difference")
    if not difference or not after["models"]:
        return None
    name = difference["metric"]
    baselines = [one for one in before["models"] if one["name"] == verdict["best_baseline"]]
    return Metrics(
        name=name,
        score=after["models"][0]["metrics"][name]["value"],
        best_baseline=baselines[0]["metrics"][name]["value"] if baselines else None,
    )
