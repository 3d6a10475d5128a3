"""How long GPUs are held, and how much of it they cannot have worked; told from objects alone.

A GPU is held from the moment that its pod has a node until the pod has ended: others cannot have it
meanwhile. What is done with it is told from the RayJob, the attempt and the head pod's progress. A
GPU that computes badly is not seen here, nor is the writing of a checkpoint: the job's own metrics
(`loam_checkpoint_seconds_total`) have that.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from loam_api.status import Attempt
from loam_operator import metrics
from loam_operator.history import find_live
from loam_operator.observed import Observed, PodView
from loam_operator.status import read_status

SAMPLE_SECONDS = 5.0

_WORK_BY_STAGE = {
    None: "starting",
    "split": "preparing",
    "review": "preparing",
    "plan": "preparing",
    "baselines": "evaluating",
    "train": "training",
    "evaluate": "evaluating",
    "report": "publishing",
    "publish": "publishing",
}
# In these no GPU computes: images, models and data come in, others write, or all is over.
IDLE = ("starting", "preparing", "awaiting_teacher", "publishing", "ending")


class GpuMeter:
    """Adds up, each time it looks, what was held since it last looked.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._measured_at: float | None = None

    def measure(self, jobs: Iterable[Observed]) -> None:
        """Count the time since the last call for what is held now."""
        now = self._clock()
        elapsed = 0.0 if self._measured_at is None else now - self._measured_at
        self._measured_at = now
        metrics.GPUS_HELD.clear()
        for (namespace, work), gpus in count_gpus(jobs).items():
            metrics.GPUS_HELD.labels(namespace, work).set(gpus)
            metrics.GPU_HELD_SECONDS.labels(namespace, work).inc(gpus * elapsed)
            if work in IDLE:
                metrics.GPU_IDLE_SECONDS.labels(namespace, work).inc(gpus * elapsed)

    def pause(self) -> None:
        """Another operator counts: what passes until the next call is not ours."""
        self._measured_at = None
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


def count_gpus(jobs: Iterable[Observed]) -> Counter[tuple[str, str]]:
    """GPUs that are held, by namespace and work."""
    held: Counter[tuple[str, str]] = Counter()
    for observed in jobs:
        pods = [pod for pod in observed.pods if pod.gpus and pod.has_node and not pod.is_over]
        for pod in pods:
            held[observed.job.namespace, find_work(observed, pod)] += pod.gpus
    return held


def find_work(observed: Observed, pod: PodView) -> str:
    """What the pod's attempt does at the moment."""
    live = _find_live(observed)
    if live is None or (live.number, observed.job.uid) != (pod.attempt, pod.job_uid):
        return "ending"
    ray_job = observed.find_ray_job(live.step, live.number)
    if ray_job is None or ray_job.is_over:
        return "ending"
    document = observed.find_progress(ray_job)
    stage = document.stage if document else None
    if stage == "synthesize":
        return "awaiting_teacher" if _is_teacher_remote(observed) else "generating"
    return _WORK_BY_STAGE.get(stage, "preparing")


def _find_live(observed: Observed) -> Attempt | None:
    try:
        return find_live(read_status(observed.job.status))
    except ValueError:  # which the pass over that job complains of; the others are counted on
        return None


def _is_teacher_remote(observed: Observed) -> bool:
    synthesis = observed.job.spec.get("synthesis") or {}
    return str((synthesis.get("teacher") or {}).get("kind", "self")) != "self"
