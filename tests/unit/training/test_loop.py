"""The recipe on one process: exact batches, guards, the best weights returned."""

from __future__ import annotations

import json
import math

import pytest
import torch
from tests.tools.training_tools import fit, make_config, make_rows

from loam_runtime.data.template import EncodedExample
from loam_runtime.errors import DivergenceError, InputError
from loam_runtime.models.loading import load_adapted, load_base
from loam_runtime.training.collate import collate
from loam_runtime.training.distributed import Distributed
from loam_runtime.training.engine import Engine
from loam_runtime.training.methods.registry import METHODS
from loam_runtime.training.objective import SupervisedObjective
from loam_runtime.training.result import TrainResult

ALONE = Distributed(torch.device("cpu"))
ROWS = make_rows(20)
METHOD_NAMES = sorted(METHODS)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_micro_batches_change_no_loss(method, gemma_folder, tmp_path):
    """8 x 1 equals 1 x 8 with ragged rows: a mean of means would weigh short answers more."""
    runs = [
        fit(make_config(method=method, micro_batch=size), gemma_folder, tmp_path / str(size), ROWS)
        for size in (1, 3, 8)
    ]
    assert runs[0].losses[0] > runs[0].losses[-1]  # it learns at all
    for run in runs[1:]:
        assert run.losses == pytest.approx(runs[0].losses, abs=1e-4)


def test_micro_batches_change_no_gradient(gemma_folder):
    """Equal losses could hide a wrong scale, since Adam does not see it."""

    def compute_gradients(size):
        config = make_config(method="full")
        model = METHODS["full"].build(gemma_folder, config, torch.device("cpu"))
        engine = Engine(SupervisedObjective(model), config, ALONE)
        parts = [ROWS[start : start + size] for start in range(0, 8, size)]
        engine.accumulate(parts, sum(len(collate(part).targets) for part in parts))
        return [parameter.grad for parameter in engine.parameters.values()]

    for one, other in zip(compute_gradients(1), compute_gradients(8), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_loss_is_the_mean_over_supervised_tokens(gemma_folder, tmp_path):
    """The first step's loss is the base's own: sum of cross entropies over their count."""
    config = make_config(global_batch=20, max_steps=1)
    loss = fit(config, gemma_folder, tmp_path, ROWS).losses[0]
    base = load_base(gemma_folder, device="cpu", dtype=torch.float32)
    batch = collate(ROWS)
    with torch.no_grad():
        expected = SupervisedObjective(base)(batch).item() / len(batch.targets)
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_trained_state_is_fp32_under_bf16(method, gemma_folder, tmp_path):
    """Updates of an adapter held in bf16 round away; so would the optimizer's moments."""
    config = make_config(method=method, precision="bf16", max_steps=1)
    model = METHODS[method].build(gemma_folder, config, torch.device("cpu"))
    engine = Engine(SupervisedObjective(model), config, ALONE)
    assert {tensor.dtype for tensor in engine.tensors.values()} == {torch.float32}
    engine.accumulate([ROWS[:4]], 10)
    assert {parameter.grad.dtype for parameter in engine.parameters.values()} == {torch.float32}
    assert math.isfinite(fit(config, gemma_folder, tmp_path, ROWS).losses[0])


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_saved_adapter_is_what_was_trained(method, gemma_folder, tmp_path):
    """Loaded afresh it gives the validation loss of the training; it is adapter-sized, with no
    weight of the base in it."""
    config = make_config(method=method)
    result = fit(config, gemma_folder, tmp_path, ROWS, ROWS[:6])
    loaded = load_adapted(
        gemma_folder,
        tmp_path / "out",
        device="cpu",
        dtype=torch.float32,
        quantization="nf4" if method == "qlora" else "",
    )
    batch = collate(ROWS[:6])
    with torch.no_grad():
        loss = SupervisedObjective(loaded)(batch).item() / len(batch.targets)
    assert loss == pytest.approx(min(loss for _, loss in result.validation), abs=1e-5)
    size = (tmp_path / "out" / "adapter_model.safetensors").stat().st_size
    assert size < 4 * result.num_trainable_parameters + 20_000
    assert result.num_trainable_parameters < result.num_parameters / 4
    base = load_base(gemma_folder, device="cpu", dtype=torch.float32)
    assert result.num_parameters == base.num_parameters() + result.num_trainable_parameters


def test_saved_full_model_is_what_was_trained(gemma_folder, tmp_path):
    """Tied embeddings included, which are one tensor with two names."""
    result = fit(make_config(method="full"), gemma_folder, tmp_path, ROWS, ROWS[:6])
    loaded = load_base(tmp_path / "out", device="cpu", dtype=torch.float32)
    batch = collate(ROWS[:6])
    with torch.no_grad():
        loss = SupervisedObjective(loaded)(batch).item() / len(batch.targets)
    assert loss == pytest.approx(result.validation[-1][1], abs=1e-5)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


def test_early_stopping_returns_the_best_weights(gemma_folder, tmp_path):
    """Training on noise must worsen the validation loss; the weights from before that are what
    is published, though rotation has removed newer checkpoints than theirs meanwhile."""
    config = make_config(
        method="full",
        max_steps=40,
        eval_every_steps=1,
        early_stopping_patience=4,
        keep_last=1,
        learning_rate=3e-2,
    )
    others = make_rows(6, seed=99)
    result = fit(config, gemma_folder, tmp_path, ROWS, others)
    assert result.stopped_early
    assert result.steps == result.best_step + 4 < 40
    loaded = load_base(tmp_path / "out", device="cpu", dtype=torch.float32)
    batch = collate(others)
    with torch.no_grad():
        loss = SupervisedObjective(loaded)(batch).item() / len(batch.targets)
    best = min(loss for _, loss in result.validation)
    assert loss == pytest.approx(best, abs=1e-5)
    assert loss < result.validation[-1][1] - 1e-3


def test_validation_loss_weighs_tokens_not_batches(gemma_folder, tmp_path):
    """The whole set's mean, whatever the micro-batch: else patience would depend on hardware."""
    values = [
        fit(
            make_config(max_steps=1, micro_batch=size),
            gemma_folder,
            tmp_path / str(size),
            ROWS,
            make_rows(7, seed=5),
        ).validation[0][1]
        for size in (1, 4)
    ]
    assert values[0] == pytest.approx(values[1], abs=1e-5)


@pytest.mark.parametrize(
    ("every_seconds", "message"),
    [(3600, r"step 2: loss nan.*Rows: row-\d+"), (0, r"step 1: non-finite weights.*Rows: row-\d+")],
)
def test_divergence_names_step_and_rows(every_seconds, message, gemma_folder, tmp_path):
    """Non-finite values fail the job where they appear, are never saved, and the message says
    what the model was looking at."""
    config = make_config(
        method="full", learning_rate=math.inf, warmup=0, checkpoint_every_seconds=every_seconds
    )
    with pytest.raises(DivergenceError, match=message):
        fit(config, gemma_folder, tmp_path, ROWS)
    assert not (tmp_path / "store").exists()


def test_row_without_answer_is_an_error(gemma_folder, tmp_path):
    """A row truncated to its prompt teaches nothing; a batch of them would divide by zero."""
    rows = [*ROWS, EncodedExample("prompt-only", (5, 6, 7), 3)]
    with pytest.raises(InputError, match="prompt-only"):
        fit(make_config(global_batch=21), gemma_folder, tmp_path, rows)


def test_wrong_target_modules_are_an_input_error(gemma_folder, tmp_path):
    """PEFT's own message names no field of the manifest."""
    with pytest.raises(InputError, match=r"spec\.training\.lora\.targetModules"):
        fit(make_config(target_modules=("w_q",)), gemma_folder, tmp_path, ROWS)


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_sharding_of_adapters_is_refused_with_a_reason(method, gemma_folder, tmp_path):
    """Before the model is loaded."""
    with pytest.raises(InputError, match=f"{method} with sharding fullShard: ..."):
        fit(make_config(method=method, sharding="fullShard"), tmp_path / "none", tmp_path, ROWS)


def test_events_tell_what_happens(gemma_folder, tmp_path):
    """The progress bar, the metrics and the report live on these."""
    events = []
    result = fit(make_config(), gemma_folder, tmp_path, ROWS, ROWS[:4], on_event=events.append)
    kinds = [event["event"] for event in events]
    assert kinds[0] == "start"
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "start": 1,
        "step": 6,
        "validation": 2,
        "checkpoint": 6,
    }
    saved = [event for event in events if event["event"] == "checkpoint"]
    assert all(event["waited_seconds"] > 0 for event in saved)
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == [1, 2, 3, 4, 5, 6]
    assert [event["loss"] for event in steps] == result.losses
    assert result.num_supervised_tokens == sum(event["num_supervised_tokens"] for event in steps)
    assert all(event["learning_rate"] > 0 and event["memory_bytes"] > 0 for event in steps)


def test_result_survives_json(gemma_folder, tmp_path):
    """It crosses processes and a resumed pipeline reads it from a file."""
    result = fit(make_config(max_steps=2), gemma_folder, tmp_path, ROWS, ROWS[:4])
    assert TrainResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
