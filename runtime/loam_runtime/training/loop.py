"""The training recipe, top to bottom: set up the data, set up the model, step, save.

The loop knows one device and a `Distributed`; parallelism is put around the model from
outside, and who started the processes (Ray Train, a test, nobody) is not its concern.

Every random choice of step k follows from (seed, k, rank), so a checkpoint needs no state of
any random generator, and neither a validation nor a memory probe can disturb what follows.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from loam_runtime.data.template import EncodedExample
from loam_runtime.errors import DivergenceError, InputError
from loam_runtime.training.batches import BatchPlan, assign_micro_batches
from loam_runtime.training.checkpoint import CheckpointStore, SavedCheckpoint
from loam_runtime.training.collate import count_supervised_tokens
from loam_runtime.training.config import TrainConfig
from loam_runtime.training.distributed import Distributed, prefer_deterministic_kernels
from loam_runtime.training.drain import NO_DRAIN, Drain
from loam_runtime.training.early_stopping import EarlyStopping
from loam_runtime.training.engine import Engine, count_elements
from loam_runtime.training.methods.registry import select_method
from loam_runtime.training.objective import SupervisedObjective
from loam_runtime.training.probe import fit_micro_batch
from loam_runtime.training.progress import LoopState, measure_peak_memory
from loam_runtime.training.reference import select_reference_rows, write_reference
from loam_runtime.training.result import TrainResult
from loam_runtime.training.rows import group_examples, measure_lengths, weigh_rationale
from loam_runtime.training.schedule import compute_learning_rate
from loam_runtime.training.state_files import gather_whole

Rows = Sequence[EncodedExample]
Event = dict[str, Any]
_IDS_IN_MESSAGE = 20


def train(
    config: TrainConfig,
    model_folder: Path,
    train_rows: Rows,
    validation_rows: Rows,
    distributed: Distributed,
    checkpoints: CheckpointStore,
    output_dir: Path,
    on_event: Callable[[Event], None],
    should_stop: Callable[[], bool] = lambda: False,
    drain: Drain = NO_DRAIN,
) -> TrainResult:
    """Train, resuming from the newest checkpoint; every rank calls this alike.

    Args:
        validation_rows: may be empty; then there is no early stopping and the last weights count.
        output_dir: receives what was trained, from rank 0.
        on_event: told of the start and of every step, validation and checkpoint; rank 0 alone.
        should_stop: asked on rank 0 after every step; true leads to a checkpoint and an interrupt.
        drain: asked on every rank after every step; the first that says so makes all ranks save.

    Raises:
        InputError: no rows, rows without a supervised token, or a setting that does not fit.
        OutOfMemoryError: one row is too long for the device.
        DivergenceError: a non-finite loss, gradient or weight.
        StorageError: a checkpoint could not be saved or read.
        KeyboardInterrupt: `should_stop` said so, and a checkpoint of this moment is saved.
    """
    recipe = Recipe(config, distributed, checkpoints, on_event, should_stop, drain)
    recipe.setup_data(train_rows, validation_rows)
    recipe.setup_model(model_folder)
    recipe.resume()
    recipe.run()
    return recipe.finish(output_dir)


class Recipe:
    """One training run; its verbs stand in the order in which they are called."""

    def __init__(
        self,
        config: TrainConfig,
        distributed: Distributed,
        checkpoints: CheckpointStore,
        on_event: Callable[[Event], None],
        should_stop: Callable[[], bool] = lambda: False,
        drain: Drain = NO_DRAIN,
    ) -> None:
        self.config = config
        self.method = select_method(config)
        self.distributed = distributed
        self.checkpoints = checkpoints
        self.should_stop = should_stop
        self.drain = drain
        self.micro_batch = config.micro_batch
        self._on_event = on_event
        self._last_save = time.monotonic()

    def setup_data(self, train_rows: Rows, validation_rows: Rows) -> None:
        """Plan the batches of all steps."""
        self.train_rows, self.validation_rows = train_rows, validation_rows
        self.examples = group_examples(train_rows)
        self.plan = BatchPlan(len(self.examples), self.config.global_batch, self.config.seed)
        self.lengths = measure_lengths(train_rows)
        self.num_steps = self.config.max_steps or self.plan.count_steps(self.config.epochs)
        self.eval_every = self.config.eval_every_steps or self.plan.steps_per_epoch

    def setup_model(self, folder: Path) -> None:
        """Load the model, put it under its parallelism, find the micro-batch that fits."""
        if self.distributed.device.type == "cuda":
            prefer_deterministic_kernels()
        torch.manual_seed(self.config.seed)
        objective = SupervisedObjective(
            self.method.build(folder, self.config, self.distributed.device)
        )
        objective.check_head()
        self.num_parameters = sum(map(count_elements, objective.parameters()))
        self.engine = Engine(objective, self.config, self.distributed)
        self.num_trained = sum(map(count_elements, self.engine.parameters.values()))
        if _ends_with_an_error(self.distributed.device):
            self.micro_batch = fit_micro_batch(
                self.engine, self.train_rows, self.lengths, self.micro_batch, self.distributed
            )

    def resume(self) -> None:
        """Load the newest complete checkpoint, or begin at step 0."""
        stopping = EarlyStopping(self.config.early_stopping_patience)
        self.state = LoopState(self._identify(), stopping)
        if self.distributed.is_main:
            self.checkpoints.remove_incomplete()
        latest = self.checkpoints.latest() if self.distributed.is_main else None
        (step,) = map(int, self.distributed.share(-1 if latest is None else latest))
        if step >= 0:
            self.state = LoopState.from_dict(self.checkpoints.load_loop(step), self._identify())
            self.checkpoints.load(step, self.engine.tensors, self.distributed)
        self._emit(
            "start",
            step=self.state.step,
            num_steps=self.num_steps,
            micro_batch=self.micro_batch,
            num_workers=self.distributed.world_size,
            pid=os.getpid(),
        )

    def _identify(self) -> dict[str, Any]:
        names = ("method", "seed", "global_batch", "learning_rate", "rationale_weight")
        identity = {name: getattr(self.config, name) for name in names}
        return {**identity, "num_rows": len(self.train_rows), "num_steps": self.num_steps}

    def run(self) -> None:
        """Step until the last step, or until the validation loss no longer falls."""
        while self.state.step < self.num_steps and not self.state.stopped_early:
            self.train_step()
            is_best = self._is_validation_due() and self.validate()
            self.save_checkpoint_if_due(is_best)
        self._report_save(self.checkpoints.wait())
        # Each rank has waited for its own shards alone; the best checkpoint is all ranks' shards.
        self.distributed.wait_for_all()

    def train_step(self) -> None:
        """One optimizer step over one global batch."""
        start = time.perf_counter()
        step = self.state.step
        rows = self._select_rows(step)
        num_supervised, num_rationale = self._count_supervised(rows)
        # Over the count of the answers this weight makes the mean loss of the rationales.
        weight = self.config.rationale_weight * num_supervised / max(1, num_rationale)
        torch.manual_seed(_derive_seed(self.config.seed, step, self.distributed.rank))
        batches = self._share_out(self.train_rows, rows, self.lengths, weight)
        loss_sum = self.engine.accumulate(batches, num_supervised)
        loss = self.distributed.sum(loss_sum)[0] / num_supervised
        grad_norm = self.engine.clip_gradients()
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            self._fail_diverged(f"loss {loss}, gradient norm {grad_norm}", step)
        learning_rate = compute_learning_rate(step, self.num_steps, self.config)
        self.engine.update(learning_rate)
        seconds = time.perf_counter() - start
        num_tokens = sum(self.lengths[row] for row in rows)
        self.state.add_step(loss, num_tokens, num_supervised + num_rationale, seconds)
        self._emit(
            "step",
            step=self.state.step,
            num_steps=self.num_steps,
            loss=loss,
            learning_rate=learning_rate,
            grad_norm=grad_norm,
            tokens_per_second=num_tokens / seconds,
            num_supervised_tokens=num_supervised + num_rationale,
            memory_bytes=measure_peak_memory(self.distributed.device),
        )

    def _select_rows(self, step: int) -> list[int]:
        """Row numbers of a step: its examples' answers and rationales."""
        return [row for example in self.plan.select_rows(step) for row in self.examples[example]]

    def _share_out(
        self,
        source: Rows,
        numbers: Sequence[int],
        lengths: Sequence[int],
        rationale_weight: float = 1.0,
    ) -> list[list[EncodedExample]]:
        """This rank's micro-batches of the rows with these numbers."""
        rank, world_size = self.distributed.rank, self.distributed.world_size
        shares = assign_micro_batches(numbers, lengths, rank, world_size, self.micro_batch)
        return [
            [weigh_rationale(source[number], rationale_weight) for number in share]
            for share in shares
        ]

    def _count_supervised(self, numbers: Sequence[int]) -> tuple[int, int]:
        """Supervised tokens of the global batch: of answers, and of rationales.

        Each rank counts its part of the rows.
        """
        mine = numbers[self.distributed.rank :: self.distributed.world_size]
        rows = [self.train_rows[number] for number in mine]
        counts = [(row.is_rationale, count_supervised_tokens(row)) for row in rows]
        answers, rationales, num_empty = self.distributed.sum(
            sum(count for is_rationale, count in counts if not is_rationale),
            sum(count for is_rationale, count in counts if is_rationale),
            sum(count < 1 for _, count in counts),
        )
        if num_empty:
            raise InputError(
                f"There are rows without a token to learn among {self._name_rows(numbers)}.",
                remedy="Give every row an answer, and room for it within maxSequenceLength.",
            )
        return int(answers), int(rationales)

    def _is_validation_due(self) -> bool:
        is_step = self.state.step % self.eval_every == 0 or self.state.step == self.num_steps
        return is_step and len(self.validation_rows) > 0

    def validate(self) -> bool:
        """Mean loss per supervised token of the whole validation set; true if the best yet."""
        rows = self.validation_rows
        batches = self._share_out(rows, range(len(rows)), measure_lengths(rows))
        weight = sum(count_supervised_tokens(row) for batch in batches for row in batch)
        loss_sum, weight = self.distributed.sum(self.engine.evaluate(batches), weight)
        loss = loss_sum / weight
        if not math.isfinite(loss):
            self._fail_diverged(f"validation loss {loss}", self.state.step - 1)
        is_best = self.state.add_validation(loss)
        self._emit("validation", step=self.state.step, loss=loss, is_best=is_best)
        return is_best

    def save_checkpoint_if_due(self, is_best: bool) -> None:
        """Save after an improvement, at the end, on the clock, or because an end is near."""
        self._report_save(self.checkpoints.poll())
        is_late = time.monotonic() - self._last_save >= self.config.checkpoint_every_seconds
        # Rank 0 decides for all: clocks differ, and every rank must save the same steps. But each
        # rank's pod may be the one that goes.
        is_main, is_asked = self.distributed.is_main, self.drain.is_asked()
        wants_stop, is_late, is_drained = map(
            bool,
            self.distributed.sum(is_main and self.should_stop(), is_main and is_late, is_asked),
        )
        is_last = self.state.step == self.num_steps or self.state.stopped_early
        if is_best or is_late or is_last or wants_stop or is_drained:
            self.save_checkpoint()
        if is_drained or (wants_stop and not is_last):
            self._report_save(self.checkpoints.wait())
        if is_asked:
            self.drain.acknowledge()
        if wants_stop and not is_last:
            raise KeyboardInterrupt

    def save_checkpoint(self) -> None:
        """Write this moment; the upload goes on behind the next steps."""
        # A gradient can be finite and the updated weight not.
        if self.distributed.sum(self.engine.count_bad_weights())[0]:
            self._fail_diverged("non-finite weights", self.state.step - 1)
        saved = self.checkpoints.save(
            self.state.step,
            self.engine.tensors,
            self.state.to_dict(),
            self.distributed,
            self.state.early_stopping.best_step,
        )
        self._report_save(saved)
        self._last_save = time.monotonic()

    def _report_save(self, saved: SavedCheckpoint | None) -> None:
        if saved:
            self._emit(
                "checkpoint",
                step=saved.step,
                seconds=saved.seconds,
                waited_seconds=saved.waited_seconds,
                bytes=saved.num_bytes,
            )

    def finish(self, output_dir: Path) -> TrainResult:
        """Return to the best weights and write what is published."""
        best = self.state.early_stopping.best_step
        if best not in (-1, self.state.step):
            self.checkpoints.load(best, self.engine.tensors, self.distributed)
        reference_rows = select_reference_rows(self.train_rows)
        reference_logits = self.engine.predict_first(reference_rows)
        whole = gather_whole(self.engine.parameters)
        model = self.engine.objective.model
        if self.distributed.is_main:
            tensors = {name.removeprefix("model."): tensor for name, tensor in whole.items()}
            self.method.save(model, tensors, self.config, output_dir)
            write_reference(output_dir, reference_rows, reference_logits)
        peak = -self.distributed.min(-measure_peak_memory(self.distributed.device))[0]
        return TrainResult(
            adapter_dir=str(output_dir),
            micro_batch=self.micro_batch,
            num_trainable_parameters=self.num_trained,
            num_parameters=self.num_parameters,
            peak_memory_bytes=int(peak),
            **self.state.summarize(),
        )

    def _fail_diverged(self, what: str, step: int) -> NoReturn:
        raise DivergenceError(
            f"Training diverged in step {step + 1}: {what}. "
            f"Rows: {self._name_rows(self._select_rows(step))}.",
            remedy="Look at these rows, or lower learningRate.",
        )

    def _name_rows(self, rows: Sequence[int]) -> str:
        names = ", ".join(self.train_rows[row].id for row in rows[:_IDS_IN_MESSAGE])
        return f"{names}, ..." if len(rows) > _IDS_IN_MESSAGE else names

    def _emit(self, event: str, **fields: Any) -> None:
        if self.distributed.is_main:
            self._on_event({"event": event, **fields})


def _ends_with_an_error(device: torch.device) -> bool:
    """Whether running out of memory can be caught: on a CPU the kernel ends the process."""
    return device.type == "cuda"


def _derive_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])
