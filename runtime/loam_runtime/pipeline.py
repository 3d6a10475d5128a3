"""The way of a job, in order: seeds -> split -> synthesis -> plan -> baselines -> training ->
evaluation -> report -> publication. Read this file first.

Everything durable is under the run's prefix in object storage; whoever runs the same job again
goes on behind the last stage that was finished, and a finished job is left alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_api.run_key import compute_run_key
from loam_runtime import RUNTIME_VERSION
from loam_runtime.observability.logs import EventLog, configure_console_logging
from loam_runtime.observability.metrics import Metrics
from loam_runtime.observability.progress import Progress, open_progress
from loam_runtime.observability.run_monitor import RunMonitor
from loam_runtime.results import LatestRun
from loam_runtime.sources import fetch_sources
from loam_runtime.stages import StageRunner
from loam_runtime.storage.cache import cache_dir
from loam_runtime.storage.registry import open_store, resolve_uri
from loam_runtime.storage.run_store import RunStore

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJob
    from loam_runtime.steps.context import JobContext

STAGES = ("split", "synthesize", "plan", "baselines", "train", "evaluate", "report", "publish")


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
        verdict = self.run["verdict"]["text"]
        places = [f"Adapter: {self.run['adapter']}", f"Report:  {self.run['report']}"]
        return "\n".join([*before, verdict, *places])


@dataclass(frozen=True, slots=True)
class Try:
    """Which try at a job this is.

    Attributes:
        attempt, uid, incarnation: for the run's lock; see `LockRecord`.
        micro_batch_divisor: see `JobContext`.
    """

    attempt: int = 1
    uid: str = ""
    incarnation: str = ""
    micro_batch_divisor: int = 1


def run_job(
    job: FineTuneJob,
    *,
    base_dir: Path,
    metrics_port: int = 0,
    metrics_host: str = "127.0.0.1",
    this_try: Try | None = None,
    progress: Progress | None = None,
) -> RunOutcome:
    """Run a job on this machine, or go on with a run that was interrupted.

    Args:
        base_dir: folder that relative URIs of the manifest start at.
        metrics_port: serve Prometheus metrics there; 0 for not at all.
        metrics_host: the address that they are served at.
        this_try: on one machine there are no numbered attempts, and this is left out.
        progress: shows the stages; by default on this process's terminal.

    Raises:
        LoamError: any failure that a user can meet, with its remedy and exit code.
        KeyboardInterrupt: on Ctrl-C or SIGTERM; the same call resumes.
    """
    _quiet_libraries()
    sources = fetch_sources(job.spec, base_dir)
    digests = {f"{role}_digest": digest for role, digest in sources.digests.items()}
    run_key = compute_run_key(job, runtime_version=RUNTIME_VERSION, **digests)
    store = open_store(resolve_uri(job.spec.output.uri, base_dir))
    run = RunStore(store, run_key)
    published = LatestRun(store, run_key)
    if run.is_finished():
        run.ensure_latest()
        return RunOutcome(True, published.summary())
    # The same job may be running towards another output.
    work_dir = cache_dir() / "work" / hashlib.sha256(run.uri.encode()).hexdigest()[:16]
    progress = progress or open_progress(STAGES)
    with (
        _hold_lock(run, job, this_try or Try()),
        _monitor_run(job, run, work_dir, (metrics_host, metrics_port), progress) as monitor,
    ):
        from loam_runtime.steps.context import JobContext

        divisor = this_try.micro_batch_divisor if this_try else 1
        context = JobContext(job, base_dir, sources, run, run_key, work_dir, divisor)
        run_stages(context, monitor)
    shutil.rmtree(work_dir, ignore_errors=True)
    return RunOutcome(False, published.summary())


def run_stages(context: JobContext, monitor: RunMonitor) -> None:
    """The stages in order; each is skipped where this run has done it before."""
    from loam_runtime.steps import evaluate, plan, publish, report, split, synthesize, train

    stages = StageRunner(context.run, context.work_dir, monitor)
    rows = stages.run("split", partial(split.split_data, context))
    synthetic = None
    if context.job.spec.synthesis:
        synthetic = stages.run(
            "synthesize", partial(synthesize.synthesize_rows, context, rows.folder)
        )
    folders = (rows.folder, synthetic.folder if synthetic else None)
    planned = stages.run("plan", partial(plan.plan_training, context, *folders))
    before = stages.run("baselines", partial(evaluate.measure_baselines, context, rows.folder))
    context.release_base_model()
    trained = stages.run("train", partial(train.train_adapter, context, *folders, planned.result))
    after = stages.run(
        "evaluate",
        partial(evaluate.measure_adapter, context, rows.folder, before, trained),
    )
    outputs = report.RunOutputs(rows, synthetic, planned, before, trained, after)
    stages.run("report", partial(report.write_report, context, outputs, stages))
    with monitor.stage("publish"):
        publish.publish_run(context, stages)


@contextmanager
def _hold_lock(run: RunStore, job: FineTuneJob, this_try: Try) -> Iterator[None]:
    """Be the run's one writer. Without numbered attempts a lock is taken over from a process
    that died, and from no other."""
    run.acquire(
        f"{job.metadata.namespace}/{job.metadata.name}",
        this_try.attempt,
        uid=this_try.uid,
        incarnation=this_try.incarnation,
    )
    try:
        yield
    finally:
        run.release()


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
    metrics = Metrics(STAGES)
    with ExitStack() as stack:
        stack.callback(run.upload_folder, work_dir / "logs", "logs")
        event_log = EventLog(
            work_dir / "logs" / str(attempt) / "log.jsonl", job=job.metadata.name, attempt=attempt
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


def _quiet_libraries() -> None:
    """Keep libraries' own progress bars and notices off the terminal that shows ours."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
