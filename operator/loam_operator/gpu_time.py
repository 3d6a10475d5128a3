"""How long GPUs are held, and how much of it they cannot have worked; told from objects alone.

A GPU is held from the moment that its pod has a node until the pod has ended: others cannot have it
meanwhile. What is done with it is told from the RayJob, the attempt and the head pod's progress.
What training has waited for is told there afterwards, as a sum: it is taken out of the time that
follows. A GPU that computes badly is not seen here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from loam_api.progress_document import ProgressDocument
from loam_api.status import FineTuneJobStatus
from loam_operator import metrics
from loam_operator.history import find_live
from loam_operator.observed import Observed, PodView, RayJobView
from loam_operator.profiles import find_kept
from loam_operator.status import read_status

SAMPLE_SECONDS = 5.0

_WORK_BY_STAGE = {
    None: "starting",
    "download": "downloading",
    "split": "preparing",
    "review": "preparing",
    "plan": "preparing",
    "baselines": "evaluating",
    "train": "training",
    "evaluate": "evaluating",
    "judge": "awaiting_judge",
    "report": "publishing",
    "publish": "publishing",
}
# In these no GPU computes: images, models and data come in, others write or judge, states are
# stored, or all is over.
IDLE = (
    "starting",
    "downloading",
    "preparing",
    "awaiting_teacher",
    "checkpointing",
    "awaiting_judge",
    "publishing",
    "ending",
)

# A job's UID, the attempt, and Ray's name for its submission.
Submission = tuple[str, int, str]
Waits = dict[str, float]  # seconds by reason


class GpuMeter:
    """Adds up, each time it looks, what was held since it last looked.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._measured_at: float | None = None
        self._counted: dict[Submission, Waits] = {}

    def measure(self, jobs: Iterable[Observed]) -> None:
        """Count the time since the last call for what is held now."""
        now = self._clock()
        elapsed = 0.0 if self._measured_at is None else now - self._measured_at
        self._measured_at = now
        metrics.GPUS_HELD.clear()
        known, self._counted = self._counted, {}
        for observed in jobs:
            if any(_is_held(pod) for pod in observed.pods):
                self._measure_job(observed, elapsed, known)

    def _measure_job(
        self, observed: Observed, elapsed: float, known: dict[Submission, Waits]
    ) -> None:
        status = _read(observed)
        ray_job = _find_ray_job(observed, status)
        for work, gpus in count_gpus(observed, ray_job).items():
            metrics.GPUS_HELD.labels(observed.job.namespace, work).inc(gpus)
            _add_cost(observed, status, gpus * elapsed)
            for spent_on, seconds in self._share_out(observed, ray_job, work, elapsed, known):
                _add_seconds(observed.job.namespace, spent_on, gpus * seconds)

    def _share_out(
        self,
        observed: Observed,
        ray_job: RayJobView | None,
        work: str,
        elapsed: float,
        known: dict[Submission, Waits],
    ) -> Iterator[tuple[str, float]]:
        """The time by what it went to: first the waits that the live attempt has told of, as far
        as they are not counted yet, then its work.

        What it had told before it was first seen was another operator's to count.
        """
        if work != "ending" and ray_job is not None:
            submission = observed.job.uid, ray_job.attempt, ray_job.job_id
            told = _list_waits(observed.find_progress(ray_job))
            counted = self._counted[submission] = known.get(submission) or dict(told)
            for reason, total in told.items():
                seconds = min(elapsed, max(0.0, total - counted[reason]))
                counted[reason] += seconds
                elapsed -= seconds
                yield reason, seconds
        yield work, elapsed

    def pause(self) -> None:
        """Another operator counts: what passes until the next call is not ours."""
        self._measured_at = None
        self._counted = {}
        metrics.GPUS_HELD.clear()

    async def run(
        self, list_jobs: Callable[[], Iterable[Observed]], is_leader: Callable[[], bool]
    ) -> None:
        """Measure every few seconds, until cancelled."""
        while True:
            if is_leader():
                self.measure(list_jobs())
            else:
                self.pause()
            await asyncio.sleep(SAMPLE_SECONDS)


def count_gpus(observed: Observed, ray_job: RayJobView | None) -> Counter[str]:
    """GPUs that a job's pods hold, by work.

    Args:
        ray_job: of the live attempt; None where none is live.
    """
    held: Counter[str] = Counter()
    for pod in observed.pods:
        if _is_held(pod):
            held[find_work(observed, ray_job, pod)] += pod.gpus
    return held


def _is_held(pod: PodView) -> bool:
    return bool(pod.gpus) and pod.node_since is not None and not pod.is_over


def find_work(observed: Observed, ray_job: RayJobView | None, pod: PodView) -> str:
    """What the pod's attempt does at the moment."""
    if ray_job is None or (ray_job.attempt, observed.job.uid) != (pod.attempt, pod.job_uid):
        return "ending"
    document = observed.find_progress(ray_job)
    stage = document.stage if document else None
    if stage == "synthesize":
        return "awaiting_teacher" if _is_teacher_remote(observed) else "generating"
    return _WORK_BY_STAGE.get(stage, "preparing")


def _list_waits(document: ProgressDocument | None) -> Waits:
    if document is None:
        return {"downloading": 0.0, "checkpointing": 0.0}
    return {
        "downloading": document.download_seconds,
        "checkpointing": document.checkpoint_seconds,
    }


def _find_ray_job(observed: Observed, status: FineTuneJobStatus | None) -> RayJobView | None:
    """That of the live attempt, while it is not over."""
    live = find_live(status) if status else None
    ray_job = observed.find_ray_job(live.step, live.number) if live else None
    return ray_job if ray_job is not None and not ray_job.is_over else None


def _read(observed: Observed) -> FineTuneJobStatus | None:
    try:
        return read_status(observed.job.status)
    except ValueError:  # which the pass over that job complains of; the others are counted on
        return None


def _add_seconds(namespace: str, work: str, gpu_seconds: float) -> None:
    metrics.GPU_HELD_SECONDS.labels(namespace, work).inc(gpu_seconds)
    if work in IDLE:
        metrics.GPU_IDLE_SECONDS.labels(namespace, work).inc(gpu_seconds)


def _add_cost(observed: Observed, status: FineTuneJobStatus | None, gpu_seconds: float) -> None:
    profile = find_kept(observed, status.profile) if status else None
    if profile is None or profile.spec.gpu_hour_price is None:
        return
    cost = gpu_seconds / 3600 * profile.spec.gpu_hour_price
    metrics.GPU_COST.labels(observed.job.namespace, profile.spec.currency or "").inc(cost)


def _is_teacher_remote(observed: Observed) -> bool:
    synthesis = observed.job.spec.get("synthesis") or {}
    return str((synthesis.get("teacher") or {}).get("kind", "self")) != "self"
