"""Rows, runs and process groups for the tests of training.

Functions that run in another process live here because it must be able to import them.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from loam_runtime.data.template import EncodedExample
from loam_runtime.storage.registry import open_store
from loam_runtime.training.config import TrainConfig

VOCABULARY = range(5, 300)
_JOIN_SECONDS = 120


def make_rows(num_rows: int, *, seed: int = 0, longest: int = 30) -> list[EncodedExample]:
    """Rows of ragged lengths that end in token 1, each with at least one supervised token."""
    draw = random.Random(seed)
    rows = []
    for index in range(num_rows):
        num_prompt, num_target = draw.randint(1, longest // 2), draw.randint(1, longest // 2)
        ids = [draw.choice(VOCABULARY) for _ in range(num_prompt + num_target - 1)]
        rows.append(EncodedExample(f"row-{index}", (*ids, 1), num_prompt))
    return rows


def make_config(**changes: Any) -> TrainConfig:
    """A short fp32 run without dropout: 6 steps of 8 examples."""
    defaults = {
        "method": "lora",
        "learning_rate": 1e-2,
        "max_steps": 6,
        "global_batch": 8,
        "micro_batch": 4,
        "rank": 4,
        "alpha": 16,
        "dropout": 0.0,
        "checkpoint_every_seconds": 0,
    }
    return TrainConfig(**{**defaults, **changes})


def fit(
    config: TrainConfig,
    model_folder: Path,
    folder: Path,
    rows: Sequence[EncodedExample],
    validation_rows: Sequence[EncodedExample] = (),
    on_event: Callable[[dict[str, Any]], None] = lambda event: None,
):
    """Train under `folder`; calling it again resumes."""
    from loam_runtime.training.local import fit_locally

    return fit_locally(
        config,
        model_folder,
        rows,
        validation_rows,
        storage=open_store(f"file://{folder}/store"),
        work_dir=folder / "work",
        output_dir=folder / "out",
        on_event=on_event,
    )


def fit_and_die(die_at: int, config: TrainConfig, model: Path, folder: Path, *rows: Any) -> None:
    """Train until `die_at` steps are done, then be killed without a chance to clean up."""

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    fit(config, model, folder, *rows, on_event=on_event)


def fit_in_group(die_at: int, *args: Any) -> Any:
    """`fit` on one rank of a group; rank 1 is killed after `die_at` steps (0 for never)."""
    import torch.distributed as dist

    from loam_runtime.training import loop

    if die_at and dist.get_rank() == 1:
        record = loop.LoopState.add_step

        def record_and_die(state: Any, *values: Any) -> None:
            record(state, *values)
            if state.step == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        loop.LoopState.add_step = record_and_die
    norms: list[float] = []

    def note_norm(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            norms.append(event["grad_norm"])

    return {**fit(*args, on_event=note_norm).to_dict(), "grad_norms": norms}


def fit_with_a_late_shard(*args: Any) -> Any:
    """`fit` on one rank of a group; rank 1's shards are whole when rank 0 looks for them, or waits
    for the others, and not before."""
    import torch.distributed as dist

    from loam_runtime.storage.file import FileStore
    from loam_runtime.training.checkpoint import CheckpointStore
    from loam_runtime.training.distributed import Distributed

    signal_path = Path(args[2]) / "signal"
    signal_path.parent.mkdir(exist_ok=True)
    signals = dist.FileStore(str(signal_path), dist.get_world_size())
    put, load, wait = FileStore.put, CheckpointStore.load, Distributed.wait_for_all

    def put_late(store: FileStore, key: str, data: bytes, **conditions: Any) -> str:
        if "complete-00001" in key:
            signals.wait(["rank-0-goes-on"])
        return put(store, key, data, **conditions)

    def load_and_tell(*values: Any) -> None:
        try:
            load(*values)
        finally:
            signals.set("rank-0-goes-on", "")

    def tell_and_wait(distributed: Distributed) -> None:
        signals.set("rank-0-goes-on", "")
        wait(distributed)

    if dist.get_rank():
        FileStore.put = put_late
    else:
        CheckpointStore.load, Distributed.wait_for_all = load_and_tell, tell_and_wait
    return fit(*args).to_dict()


def record_rows(*args: Any) -> list[list[str]]:
    """The ids that this rank's model computed in each step of `fit`."""
    from loam_runtime.training.engine import Engine

    accumulate, seen = Engine.accumulate, []

    def record_and_accumulate(engine: Engine, micro_batches: Any, total_weight: float) -> float:
        seen.append([row.id for rows in micro_batches for row in rows])
        return accumulate(engine, micro_batches, total_weight)

    Engine.accumulate = record_and_accumulate
    fit(*args)
    return seen


def inspect_shards(config: TrainConfig, model_folder: Path) -> tuple[int, int, bool]:
    """Elements of parameters and moments held by this rank, by all, and whether all are shards."""
    import torch
    from torch.distributed.tensor import DTensor

    from loam_runtime.training.distributed import join_group
    from loam_runtime.training.engine import Engine
    from loam_runtime.training.methods.full import FULL
    from loam_runtime.training.objective import SupervisedObjective
    from loam_runtime.training.state_files import get_local

    device = torch.device("cpu")
    objective = SupervisedObjective(FULL.build(model_folder, config, device))
    engine = Engine(objective, config, join_group(device))
    tensors = [tensor for tensor in engine.tensors.values() if tensor.dim()]
    held = sum(get_local(tensor).numel() for tensor in tensors)
    total = sum(tensor.numel() for tensor in tensors)
    return held, total, all(isinstance(tensor, DTensor) for tensor in tensors)


def run_process(function: Callable[..., Any], *args: Any) -> int:
    """Run `function` in a process of its own; returns its exit code."""
    process = _get_context().Process(target=function, args=args)
    process.start()
    process.join(_JOIN_SECONDS)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


def run_ranks(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What `function` returned on each rank of a gloo group; None for a rank that was killed.

    Raises:
        RuntimeError: a rank failed by itself; its traceback is the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = _get_context()
        queue = context.SimpleQueue()
        setting = (f"file://{folder}/group", world_size, queue, function, args)
        ranks = [
            context.Process(target=_run_rank, args=(rank, *setting)) for rank in range(world_size)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(_JOIN_SECONDS)
            if process.exitcode is None:
                process.kill()
        results: dict[int, Any] = {}
        while not queue.empty():
            rank, result, failure = queue.get()
            killed = any(process.exitcode == -signal.SIGKILL for process in ranks)
            if failure and not killed:
                raise RuntimeError(failure)
            results[rank] = result
        return [results.get(rank) for rank in range(world_size)]


def _run_rank(
    rank: int, address: str, world_size: int, queue: Any, function: Any, args: Any
) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world_size)
    try:
        queue.put((rank, function(*args), ""))
    except BaseException:
        queue.put((rank, None, traceback.format_exc()))
    finally:
        dist.destroy_process_group()


def _get_context() -> Any:
    """Forks of a server that has imported the heavy libraries once, but has never run them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "transformers", "peft", "bitsandbytes", "loam_runtime.training.local"]
    )
    return context
