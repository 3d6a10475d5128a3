"""The way of a job, in order: seeds -> split -> synthesis -> review -> plan -> baselines ->
training -> evaluation -> judge of answers -> report -> publication. Read this file first.

Everything durable is under the run's prefix in object storage; whoever runs the same job again
goes on behind the last stage that was finished, and a finished job is left alone.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_api.endpoints import needs_finish
from loam_api.run_key import compute_run_key
from loam_runtime import RUNTIME_VERSION
from loam_runtime.errors import LoamError
from loam_runtime.observability.log_upload import upload_regularly
from loam_runtime.observability.logs import EventLog, configure_console_logging
from loam_runtime.observability.metrics import Metrics
from loam_runtime.observability.progress import Progress, open_progress
from loam_runtime.observability.run_monitor import RunMonitor
from loam_runtime.results import LatestRun, describe_run_summary
from loam_runtime.sources import fetch_sources
from loam_runtime.stages import StageRunner
from loam_runtime.storage.local import cache_dir, translate_os_errors
from loam_runtime.storage.registry import open_store, resolve_uri
from loam_runtime.storage.run_store import RunStore

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJob
    from loam_runtime.observability.relay import RelayedMonitor
    from loam_runtime.sources import Sources
    from loam_runtime.steps.context import JobContext
    from loam_runtime.storage.base import ObjectStore

logger = logging.getLogger(__name__)

STAGES = (
    "split",
    "synthesize",
    "review",
    "plan",
    "baselines",
    "train",
    "evaluate",
    "judge",
    "report",
    "publish",
)


DOWNLOAD = "download"  # what a worker does before the first of them


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How `run_job` ended.

    Attributes:
        was_finished: the run had been published before; nothing was done.
        run: its key, verdict and places, as `LatestRun.summary` gives them.
    """

    was_finished: bool
    run: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def describe(self) -> str:
        """A few lines for a person."""
        before = ["This job is finished; nothing was done."] if self.was_finished else []
        return "\n".join([*before, *describe_run_summary(self.run)])


@dataclass(frozen=True, slots=True)
class Try:
    """Which try at a job this is.

    Attributes:
        attempt, uid, incarnation: for the run's lock; see `LockRecord`. On one machine there are
            no numbered attempts.
    """

    attempt: int = 1
    uid: str = ""
    incarnation: str = ""


def run_job(job: FineTuneJob, *, base_dir: Path, metrics_port: int = 0) -> RunOutcome:
    """Run a job on this machine, or go on with a run that was interrupted.

    Args:
        base_dir: folder that relative URIs of the manifest start at.
        metrics_port: serve Prometheus metrics there; 0 for not at all.

    Raises:
        LoamError: any failure that a user can meet, with its remedy and exit code.
        KeyboardInterrupt: on Ctrl-C or SIGTERM; the same call resumes.
    """
    quiet_libraries()
    sources = fetch_sources(job.spec, base_dir)
    run_key = identify_run(job, sources)
    run = open_run(job, base_dir, run_key)
    outcome = find_outcome(job, base_dir, run_key)
    if outcome is not None:
        return outcome
    progress = open_progress(STAGES)
    with lead_run(run, job, Try(), progress, ("127.0.0.1", metrics_port)) as monitor:
        outcome = find_outcome(job, base_dir, run_key)
        if outcome is not None:  # another made it while its lock was waited for
            return outcome
        context = build_context(job, base_dir, sources, run, run_key)
        run_stages(context, monitor)
    shutil.rmtree(context.work_dir, ignore_errors=True)
    return RunOutcome(False, LatestRun(open_output(job, base_dir), run_key).summary())


def identify_run(job: FineTuneJob, sources: Sources) -> str:
    """The key of the run that this job and these inputs make."""
    digests = {f"{role}_digest": digest for role, digest in sources.digests.items()}
    return compute_run_key(job, runtime_version=RUNTIME_VERSION, **digests)


def open_output(job: FineTuneJob, base_dir: Path) -> ObjectStore:
    """The store that the job publishes to."""
    return open_store(resolve_uri(job.spec.output.uri, base_dir))


def open_run(job: FineTuneJob, base_dir: Path, run_key: str) -> RunStore:
    """The run's folder in it."""
    return RunStore(open_output(job, base_dir), run_key)


def find_outcome(job: FineTuneJob, base_dir: Path, run_key: str) -> RunOutcome | None:
    """The outcome of a run that was published before; None where there is something to do."""
    run = open_run(job, base_dir, run_key)
    if not run.is_finished():
        return None
    run.ensure_latest()
    return RunOutcome(True, LatestRun(open_output(job, base_dir), run_key).summary())


def build_context(
    job: FineTuneJob,
    base_dir: Path,
    sources: Sources,
    run: RunStore,
    run_key: str,
    *,
    micro_batch_divisor: int = 1,
    num_pods: int = 0,
) -> JobContext:
    """What the stages share; `run` is open for writing."""
    from loam_runtime.steps.context import JobContext

    work_dir = locate_work_dir(run)
    return JobContext(job, base_dir, sources, run, run_key, work_dir, micro_batch_divisor, num_pods)


def locate_work_dir(run: RunStore) -> Path:
    """Local scratch folder of a run; the same job may be running towards another output."""
    return cache_dir() / "work" / hashlib.sha256(run.uri.encode()).hexdigest()[:16]


def run_stages(
    context: JobContext, monitor: RunMonitor | RelayedMonitor, last: str = STAGES[-1]
) -> StageRunner:
    """The stages in order, to the last one wanted; each is skipped where this run has done it."""
    from loam_runtime.steps import evaluate, judge, plan, review, split, synthesize, train

    stages = StageRunner(context.run, context.work_dir, monitor)
    rows = stages.run("split", partial(split.split_data, context))
    if needs_finish(context.job.spec) and context.has_keys:
        judge.check_judge(context, rows.folder)
    if last == "split":
        return stages
    synthetic = None
    if context.job.spec.synthesis:
        synthetic = stages.run(
            "synthesize", partial(synthesize.synthesize_rows, context, rows.folder)
        )
    if last == "synthesize":
        return stages
    reviewed = None
    if synthetic and review.is_required(context.job):
        review.check_decision(context)
        reviewed = stages.run(
            "review",
            partial(
                review.review_rows,
                context,
                rows.folder,
                synthetic.folder,
                synthetic.result["report"],
            ),
        )
    written = reviewed or synthetic
    folders = (rows.folder, written.folder if written else None)
    planned = stages.run("plan", partial(plan.plan_training, context, *folders))
    before = stages.run("baselines", partial(evaluate.measure_baselines, context, rows.folder))
    context.release_base_model()
    trained = stages.run("train", partial(train.train_adapter, context, *folders, planned.result))
    stages.run(
        "evaluate",
        partial(evaluate.measure_adapter, context, rows.folder, before, trained),
    )
    if last != "evaluate":
        _publish_results(context, monitor, stages)
    return stages


def finish_stages(context: JobContext, monitor: RunMonitor) -> None:
    """The stages behind the evaluation, where those before it were done by another process.

    They load no model and not torch, and fetch of the run what they read alone.

    Raises:
        LoamError: an earlier stage is not done.
    """
    from loam_runtime.steps import review

    stages = StageRunner(context.run, context.work_dir, monitor)
    absent = {
        "synthesize": context.job.spec.synthesis is None,
        "review": not review.is_required(context.job),
    }
    for name in STAGES[: STAGES.index("judge")]:
        if not absent.get(name):
            stages.recall(name)
    _publish_results(context, monitor, stages)


def _publish_results(
    context: JobContext, monitor: RunMonitor | RelayedMonitor, stages: StageRunner
) -> None:
    from loam_runtime.steps import judge, publish, report

    if needs_finish(context.job.spec):
        stages.run("judge", partial(judge.judge_answers, context, stages.outputs))
    stages.run("report", partial(report.write_report, context, stages))
    with monitor.stage("publish"):
        publish.publish_run(context, stages)


@contextmanager
def lead_run(
    run: RunStore,
    job: FineTuneJob,
    this_try: Try,
    progress: Progress,
    metrics_address: tuple[str, int],
) -> Iterator[RunMonitor]:
    """Be the run's one writer, and watch it.

    Args:
        metrics_address: where Prometheus metrics are served; port 0 for not at all.
    """
    with (
        _hold_lock(run, job, this_try),
        _monitor_run(job, run, locate_work_dir(run), metrics_address, progress) as monitor,
    ):
        yield monitor


@contextmanager
def _hold_lock(run: RunStore, job: FineTuneJob, this_try: Try) -> Iterator[None]:
    """Without numbered attempts a lock is taken over only from a process that is gone."""
    take_lock(run, job, this_try)
    with _end_with(run.release, "The lock of the run was not released"):
        yield


@contextmanager
def _end_with(action: Callable[[], object], failure: str) -> Iterator[None]:
    """Do something when the block ends, however it ends; its own error comes before the action's.

    Args:
        failure: what is logged where both fail, a clause.
    """
    try:
        yield
    except BaseException:
        try:
            action()
        except LoamError as error:
            logger.warning("%s: %s", failure, error)
        raise
    action()


def take_lock(run: RunStore, job: FineTuneJob, this_try: Try) -> None:
    """Become the run's one writer; who is it already fences out what it started before.

    Raises:
        FencedError: another writer holds it and may still be running.
    """
    run.acquire(
        f"{job.metadata.namespace}/{job.metadata.name}",
        this_try.attempt,
        uid=this_try.uid,
        incarnation=this_try.incarnation,
    )


@contextmanager
def _monitor_run(
    job: FineTuneJob,
    run: RunStore,
    work_dir: Path,
    metrics_address: tuple[str, int],
    progress: Progress,
) -> Iterator[RunMonitor]:
    """Progress, metrics and structured log. The log of a killed start is stored by the next."""
    attempt = run.token  # grows with every start
    metrics = Metrics((DOWNLOAD, *STAGES))
    with ExitStack() as stack:
        upload_logs = partial(run.upload_folder, work_dir / "logs", "logs")
        stack.enter_context(_end_with(upload_logs, "The log of the run was not stored"))
        log_path = work_dir / "logs" / str(attempt) / "log.jsonl"
        with translate_os_errors(log_path):
            event_log = EventLog(log_path, job=job.metadata.name, attempt=attempt)
        stack.enter_context(
            upload_regularly(work_dir / "logs", lambda key, data: run.put(f"logs/{key}", data))
        )
        stack.enter_context(event_log.capture_logging())
        configure_console_logging(event_log.redactor)
        host, port = metrics_address
        if port:
            stack.callback(metrics.serve(port, host).close)
        monitor = RunMonitor(STAGES, metrics=metrics, event_log=event_log, progress=progress)
        stack.callback(monitor.close)
        monitor.log("run_started", run=run.uri, pid=os.getpid())
        yield monitor


def quiet_libraries() -> None:
    """Keep libraries' own progress bars and notices off the terminal that shows ours."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
