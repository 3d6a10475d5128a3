"""Runs the training loop under Ray Train: one to many workers, restarted when one is lost.

Ray's part is placing and restarting processes. Checkpoints are the loop's own and go to the
run's storage, so nothing is reported to Ray, and a restart, whoever asked for it, finds the
newest checkpoint there.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import tenacity

from loam_runtime.errors import LoamError, WorkersLostError
from loam_runtime.training.config import TrainConfig
from loam_runtime.training.ray_entry import run_worker
from loam_runtime.training.ray_task import ADAPTER_PREFIX, WorkerTask
from loam_runtime.training.result import TrainResult
from loam_runtime.training.run_address import RunAddress
from loam_runtime.training.shared_inputs import ModelSource, share_rows

# Read by Ray when it is imported or when it starts its processes.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # A process more at every start, to answer a question that the loop does not ask.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Workers find the installed packages by themselves.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Ray's coming default; the accelerators of a worker without GPU stay as they are.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # As nice as the command: at Ray's 15, training stands still beside anything that computes.
    "RAY_worker_niceness": "0",
}
# How long workers may take to get their places.
_START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
_GIVEN_START_TIMEOUT = os.environ.get(_START_TIMEOUT, "")
# A cold GPU pod takes minutes to pull its image. An elastic group asks for what Ray has just seen
# to be there: to wait long for it would be to wait for a node that is lost.
_START_SECONDS, _ELASTIC_START_SECONDS = 1800, 60
_RESIZE_SECONDS = 60.0  # between two looks for more room
_OBJECT_STORE_BYTES = 128 * 2**20  # only events pass through it
_MAX_RESTARTS = 3  # by Ray, before it is asked whether training gets on at all
_POLL_SECONDS = 0.2
_INTERRUPT_SECONDS = 30.0


def fit(
    config: TrainConfig,
    model_folder: Path,
    train_path: Path,
    validation_path: Path | None,
    *,
    model: ModelSource,
    run: RunAddress,
    work_dir: Path,
    output_dir: Path,
    on_event: Callable[[dict[str, Any]], None],
) -> TrainResult:
    """Train on `config.num_workers` Ray workers; events reach `on_event` in this thread.

    Starts a local Ray unless one is connected already or RAY_ADDRESS names a cluster.

    Args:
        train_path: of rows written by `write_encoded`, like all paths on this machine.
        model: where workers on other machines find the model.
        run: holds the checkpoints; this process must have its lock.
        output_dir: receives what was trained.

    Raises:
        LoamError: as `loop.train`.
        WorkersLostError: workers were lost again and again, with no checkpoint in between.
        KeyboardInterrupt: Ctrl-C; the workers were given half a minute to save a checkpoint.
    """
    with (
        connect_ray(config.num_workers) as is_cluster,
        tempfile.TemporaryDirectory(prefix="loam-ray-") as folder,
    ):
        import ray

        node = ray.get_runtime_context().get_node_id()
        task = WorkerTask(
            config,
            model,
            model_folder,
            train_path,
            validation_path,
            run,
            work_dir,
            output_dir,
            node,
        )
        if is_cluster:
            share_rows(run.open(), train_path, validation_path)
        result = _fit_task(task, Path(folder), on_event)
        if not any(output_dir.glob("*")):  # rank 0 was on another machine
            run.open().download_folder(ADAPTER_PREFIX, output_dir)
    return result


@contextlib.contextmanager
def connect_ray(num_workers: int) -> Iterator[bool]:
    """A Ray to train on: one that is connected already, the one at RAY_ADDRESS, or a new local one.

    What was connected here is disconnected at the end, and a local Ray ends with it. Yields
    whether there may be workers on other machines.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
    import ray

    if ray.is_initialized():
        yield True
        return
    try:
        _init_ray(num_workers)
        yield bool(os.environ.get("RAY_ADDRESS"))
    finally:
        ray.shutdown()


def _shut_down(retry_state: tenacity.RetryCallState) -> None:
    import ray

    ray.shutdown()


# Ray gives its own processes 30 s to start, too little for a machine that is busy.
@tenacity.retry(stop=tenacity.stop_after_attempt(3), before_sleep=_shut_down, reraise=True)
def _init_ray(num_workers: int) -> None:
    import ray

    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
        return
    ray.init(
        # Or else it joins whatever Ray has left its address in /tmp, alive or dead.
        address="local",
        # Logical CPUs place workers; there must be enough however few cores there are.
        num_cpus=max(os.cpu_count() or 1, num_workers),
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        **quiet,
    )


class _Checkpoints:
    """Hands events on and notes whether training gets from one checkpoint to a later one."""

    def __init__(self, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._on_event = on_event
        self._steps: list[int] = []

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] in ("start", "checkpoint"):
            self._steps.append(event["step"])
        self._on_event(event)

    @property
    def has_advanced(self) -> bool:
        return bool(self._steps) and max(self._steps) > self._steps[0]


def _fit_task(
    task: WorkerTask, ray_dir: Path, on_event: Callable[[dict[str, Any]], None]
) -> TrainResult:
    """Train to the end: a long training may lose any number of workers, as long as it gets on."""
    from ray.train import WorkerGroupError

    while True:
        checkpoints = _Checkpoints(on_event)
        try:
            return _fit_once(task, ray_dir, checkpoints)
        except WorkerGroupError as exc:
            if not checkpoints.has_advanced:
                raise _describe_loss(exc.worker_failures.values(), exc) from exc


def _describe_loss(failures: Iterable[Exception], exc: Exception) -> LoamError:
    # Of the training's own errors only those leave a worker that a lost peer causes, too.
    is_lost = any(not isinstance(failure, RuntimeError) for failure in failures)
    kind = WorkersLostError if is_lost else LoamError
    return kind(
        f"The training workers failed {_MAX_RESTARTS + 1} times with no checkpoint in between: "
        f"{exc}",
        remedy="Run the same command again to resume from the last checkpoint.",
    )


def _fit_once(
    task: WorkerTask, ray_dir: Path, on_event: Callable[[dict[str, Any]], None]
) -> TrainResult:
    import ray
    from ray.train import WorkerGroupError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from loam_runtime.training.ray_mailbox import Mailbox

    # On this node: were it on a worker's, it would be lost with that worker.
    here = NodeAffinitySchedulingStrategy(task.driver_node, soft=False)
    mailbox = Mailbox.options(scheduling_strategy=here).remote()
    trainer = _build_trainer(task, mailbox, ray_dir)
    future = _start(trainer.fit)
    try:
        _relay(mailbox, future, on_event)
    except BaseException:
        _stop(mailbox, future)
        raise
    failure = ray.get(mailbox.get_failure.remote())
    if failure:
        raise failure
    try:
        return TrainResult.from_dict(future.result().return_value)
    except WorkerGroupError:
        raise
    except Exception as exc:
        raise LoamError(
            f"The training workers could not be started: {exc}",
            remedy="Run the same command again to resume from the last checkpoint.",
        ) from exc


def _start(function: Callable[[], Any]) -> Future:
    """Call it in a thread, where Ray installs no signal handler, and which cannot outlive us."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as exc:
            future.set_exception(exc)

    threading.Thread(target=run, name="ray-train", daemon=True).start()
    return future


def _build_trainer(task: WorkerTask, mailbox: Any, ray_dir: Path) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    config = task.config
    on_gpu = config.device.startswith("cuda")
    # Between the two numbers Ray takes what there is, and starts anew from the last checkpoint
    # when there is more.
    is_elastic = 0 < config.min_workers < config.num_workers
    num_workers = (config.min_workers, config.num_workers) if is_elastic else config.num_workers
    start_seconds = _ELASTIC_START_SECONDS if is_elastic else _START_SECONDS
    os.environ[_START_TIMEOUT] = _GIVEN_START_TIMEOUT or str(start_seconds)
    return TorchTrainer(
        run_worker,
        train_loop_config={"task": task, "mailbox": mailbox},
        scaling_config=ScalingConfig(
            num_workers=num_workers,
            use_gpu=on_gpu,
            elastic_resize_monitor_interval_s=_RESIZE_SECONDS,
        ),
        run_config=RunConfig(
            name=f"train-{uuid.uuid4().hex[:8]}",
            storage_path=str(ray_dir),
            failure_config=FailureConfig(max_failures=_MAX_RESTARTS),
        ),
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
    )


def _relay(
    mailbox: Any, future: Future, on_event: Callable[[dict[str, Any]], None], until: float = 0
) -> None:
    """Hand events on until the training ends, or until the monotonic time `until`."""
    import ray

    while True:
        is_done = future.done()
        for event in ray.get(mailbox.take.remote()):
            on_event(event)
        if is_done or (until and time.monotonic() > until):
            return
        time.sleep(_POLL_SECONDS)


def _stop(mailbox: Any, future: Future) -> None:
    """Give the workers time to save a checkpoint; what is not saved is trained again."""
    import ray

    with contextlib.suppress(ray.exceptions.RayError):
        ray.get(mailbox.request_stop.remote())
        _relay(mailbox, future, lambda event: None, time.monotonic() + _INTERRUPT_SECONDS)
