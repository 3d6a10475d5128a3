"""The base model on all of a job's workers at once: one Ray actor for each, with its GPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_runtime.models.pool import ModelPool, ReplicaLost
from loam_runtime.models.vllm_choice import VLLM_BATCH
from loam_runtime.models.vllm_process import VllmProcess
from loam_runtime.storage.registry import resolve_uri
from loam_runtime.training.ray_adapter import connect_ray
from loam_runtime.training.shared_inputs import ModelSource

if TYPE_CHECKING:
    from loam_runtime.model_actor import ModelTask
    from loam_runtime.models.vllm_model import VllmModel
    from loam_runtime.steps.context import InputContext

_RELEASE_SECONDS = 10.0  # for a call that is under way when the model is let go


@contextmanager
def open_model_pool(
    context: InputContext, num_workers: int, on_loss: Callable[[str], None]
) -> Iterator[ModelPool]:
    """The job's base model on up to `num_workers` workers, for as long as the context lasts.

    Nothing waits for the last worker: those that are there answer. So an elastic job generates
    with as many as have come, and one that comes late joins.
    """
    with connect_ray(num_workers) as is_cluster:
        task = _describe_model(context, num_sharing=1 if is_cluster else num_workers)
        pool = ModelPool(context.tokenizer, lambda: RayReplica(task), num_workers, on_loss=on_loss)
        with closing(pool):
            yield pool


@contextmanager
def open_vllm_pool(
    context: InputContext, num_workers: int, on_loss: Callable[[str], None], python: str
) -> Iterator[ModelPool]:
    """As `open_model_pool`, by vLLM. One worker needs no Ray: it is a process of this one.

    Args:
        python: the interpreter that has vLLM.
    """
    context.release_base_model()  # vLLM takes its share of the device's whole memory
    options = {"on_loss": on_loss, "batch_size": VLLM_BATCH}
    if num_workers == 1:
        make = partial(VllmReplica, python, context.model_folder, context.device, context.precision)
        with closing(ModelPool(context.tokenizer, make, 1, **options)) as pool:
            yield pool
        return
    with connect_ray(num_workers) as is_cluster:
        task = _describe_model(context, 1 if is_cluster else num_workers, python)
        make = partial(RayReplica, task)
        with closing(ModelPool(context.tokenizer, make, num_workers, **options)) as pool:
            yield pool


def _describe_model(context: InputContext, num_sharing: int, vllm_python: str = "") -> ModelTask:
    import ray

    from loam_runtime.model_actor import ModelTask

    model = context.job.spec.model
    return ModelTask(
        source=ModelSource(resolve_uri(model.uri, context.base_dir), model.revision),
        folder=context.model_folder,
        driver_node=ray.get_runtime_context().get_node_id(),
        device=context.device,
        precision=context.precision,
        num_sharing=num_sharing,
        vllm_python=vllm_python,
    )


class VllmReplica:
    """A `Replica` in a process of vLLM on this machine, with all of its CPUs."""

    def __init__(self, python: str, folder: Path, device: str, precision: str) -> None:
        self._process = VllmProcess(python, os.cpu_count() or 1)
        self._source = (folder, device, precision)
        self._model: VllmModel | None = None

    def load(self) -> None:
        """See `Replica`."""
        from loam_runtime.models.vllm_model import open_vllm

        self._model = open_vllm(self._process, *self._source)

    def call(self, method: str, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        """See `Replica`."""
        return getattr(self._model, method)(*arguments, **options)

    def stop(self) -> None:
        """See `Replica`."""
        self._process.stop()


class RayReplica:
    """A `Replica` in a Ray actor, on a worker of its own: each has one CPU to give."""

    def __init__(self, task: ModelTask) -> None:
        from loam_runtime.model_actor import ModelActor

        num_gpus = 1 if task.device.startswith("cuda") else 0
        self._actor = ModelActor.options(num_cpus=1, num_gpus=num_gpus).remote(task)
        self._is_loaded = False

    def load(self) -> None:
        """See `Replica`."""
        _await(self._actor.load.remote())
        self._is_loaded = True

    def call(self, method: str, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        """See `Replica`."""
        return _await(self._actor.call.remote(method, arguments, options))

    def stop(self) -> None:
        """See `Replica`."""
        import ray

        if self._is_loaded:
            with suppress(ray.exceptions.RayError):
                ray.wait([self._actor.release.remote()], timeout=_RELEASE_SECONDS)
        ray.kill(self._actor)


def _await(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as exc:  # its text is a whole traceback
        raise exc.cause from exc
    except ray.exceptions.RayError as exc:
        raise ReplicaLost(f"{type(exc).__name__}: {exc}"[:500]) from exc
