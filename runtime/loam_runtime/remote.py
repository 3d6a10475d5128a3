"""The pipeline on a worker of a Ray cluster, where the GPU is, led by the head, which has none.

The head holds the run's lock, tells the operator, and starts the pipeline over when the worker it
ran on is lost, under a new fencing token: what the lost one still writes is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_runtime.errors import InputError, LoamError, WorkersLostError
from loam_runtime.observability.relay import Event, RelayedMonitor, Replay
from loam_runtime.pipeline import DOWNLOAD
from loam_runtime.training.run_address import RunAddress

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJob
    from loam_runtime.observability.run_monitor import RunMonitor

# The operator gives each worker pod one of it: logical CPUs are for the training processes.
PIPELINE_RESOURCE = "loam-pipeline"

_MAX_LOSSES = 3  # in a row, with no stage or checkpoint in between
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class PipelineTask:
    """What the worker is given.

    Attributes:
        base_dir: folder that relative URIs of the job start at.
        run: holds all that is durable.
        num_pods: workers of this step, each a machine of its own.
        micro_batch_divisor: see `JobContext`.
        last_stage: where to stop.
    """

    job: FineTuneJob
    base_dir: Path
    run: RunAddress
    num_pods: int
    micro_batch_divisor: int
    last_stage: str


class _WatchedReplay(Replay):
    """Notes whether something was stored that another worker goes on from."""

    has_advanced = False

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        # What a worker has downloaded goes with it.
        is_done = event["call"] == "exit" and not event["error"] and event["stage"] != DOWNLOAD
        is_saved = event["call"] == "log" and event["args"][0] == "checkpoint"
        self.has_advanced = self.has_advanced or is_done or is_saved


def run_on_worker(build_task: Callable[[], PipelineTask], monitor: RunMonitor) -> None:
    """Run the pipeline's stages on some worker; returns when they are done.

    Args:
        build_task: called for each start, with the run's lock taken anew.

    Raises:
        LoamError: what the pipeline raised there.
        WorkersLostError: workers were lost again and again before anything was stored.
        KeyboardInterrupt: as here: the worker was given time to save a checkpoint.
    """
    from loam_runtime.training.ray_adapter import connect_ray

    with connect_ray(1):
        import ray

        lost = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError)
        num_losses = 0
        while num_losses <= _MAX_LOSSES:
            replay = _WatchedReplay(monitor)
            try:
                return _run_once(build_task(), replay)
            except lost as exc:
                replay.abandon("the worker was lost")
                num_losses = 0 if replay.has_advanced else num_losses + 1
                monitor.log("worker_lost", num_losses=num_losses, message=str(exc)[:500])
    raise WorkersLostError(
        f"The worker that ran the pipeline was lost {num_losses} times in a row, with no stage "
        "done and no checkpoint in between.",
        remedy="Look for node failures or evictions; a new attempt goes on from the last "
        "checkpoint.",
    )


def _run_once(task: PipelineTask, replay: Replay) -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from loam_runtime.training.ray_mailbox import Mailbox

    # On this node, which outlives the workers.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    mailbox = Mailbox.options(scheduling_strategy=here).remote()
    remote = ray.remote(num_cpus=0, resources={PIPELINE_RESOURCE: 1}, max_retries=0)(_work)
    reference = remote.remote(task, mailbox)
    try:
        _follow(reference, mailbox, replay)
    except KeyboardInterrupt:
        ray.cancel(reference)
        _follow_to_end(reference, mailbox, replay)
        raise
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as exc:  # its text is a whole traceback
        raise exc.cause from exc
    failure = ray.get(mailbox.get_failure.remote())
    if failure:
        raise failure


def _follow(reference: Any, mailbox: Any, replay: Replay) -> None:
    """Hand events on until the task has ended."""
    import ray

    while True:
        done, _ = ray.wait([reference], timeout=0)
        for event in ray.get(mailbox.take.remote()):
            replay(event)
        if done:
            return
        time.sleep(_POLL_SECONDS)


def _follow_to_end(reference: Any, mailbox: Any, replay: Replay) -> None:
    import ray

    try:
        _follow(reference, mailbox, replay)
        ray.get(reference)
    except ray.exceptions.RayError:
        pass  # cancelled, as it was asked to be


def _work(task: PipelineTask, mailbox: Any) -> None:
    """Runs on the worker. What the pipeline raises goes through the mailbox, as it is."""
    import ray

    monitor = RelayedMonitor(lambda event: mailbox.post.remote(event))
    try:
        with monitor.capture_logging():
            _run_stages(task, monitor)
    except (LoamError, MemoryError) as exc:
        ray.get(mailbox.fail.remote(exc))
    ray.get(mailbox.is_stop_requested.remote())  # all that was posted has arrived


def _run_stages(task: PipelineTask, monitor: RelayedMonitor) -> None:
    from loam_runtime.pipeline import build_context, identify_run, quiet_libraries, run_stages
    from loam_runtime.sources import fetch_sources

    quiet_libraries()
    with monitor.stage(DOWNLOAD):
        sources = fetch_sources(task.job.spec, task.base_dir)
    if identify_run(task.job, sources) != task.run.run_key:
        raise InputError(
            "The model or the data has changed since the job began.",
            remedy="Set the annotation loam.dev/retry to begin with what is there now.",
        )
    context = build_context(
        task.job,
        task.base_dir,
        sources,
        task.run.open(),
        task.run.run_key,
        micro_batch_divisor=task.micro_batch_divisor,
        num_pods=task.num_pods,
    )
    run_stages(context, monitor, task.last_stage)
