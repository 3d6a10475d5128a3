"""Two processes train as one does: replicas (DDP) and shards (FSDP2), over gloo."""

from __future__ import annotations

import pytest
import torch
from tests.tools.tiny_models import build_tiny_model
from tests.tools.training_tools import (
    fit,
    fit_in_group,
    fit_with_a_late_shard,
    inspect_shards,
    make_config,
    make_rows,
    record_rows,
    run_ranks,
)

from loam_runtime.models.loading import load_base
from loam_runtime.training.batches import BatchPlan
from loam_runtime.training.collate import collate
from loam_runtime.training.objective import SupervisedObjective

# 21 rows in batches of 7 or fewer: the ranks' shares are never equal.
ROWS, VALIDATION = make_rows(21), make_rows(5, seed=1)
VARIANTS = [("lora", "none"), ("qlora", "none"), ("full", "none"), ("full", "fullShard")]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("models") / "gemma3")


def _configure(method, sharding, **changes):
    return make_config(
        method=method,
        sharding=sharding,
        num_workers=2,
        eval_every_steps=2,
        micro_batch=3,
        global_batch=7,
        **changes,
    )


@pytest.mark.parametrize(("method", "sharding"), VARIANTS)
def test_two_ranks_equal_one(method, sharding, model_folder, tmp_path):
    """The same loss in every step, in training and validation: the mean that DDP and FSDP2 take
    over ranks, unequal shares and an empty share must all cancel."""
    config = _configure(method, sharding)
    events = []
    rows = (ROWS, VALIDATION)
    alone = fit(config, model_folder, tmp_path / "one", *rows, on_event=events.append)
    norms = [event["grad_norm"] for event in events if event["event"] == "step"]
    args = (0, config, model_folder, tmp_path / "two", *rows)
    first, second = run_ranks(2, fit_in_group, *args)
    assert first["losses"] == pytest.approx(alone.losses, abs=1e-4)
    for ours, theirs in zip(first["validation"], alone.validation, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    assert second["losses"] == first["losses"]
    assert first["grad_norms"] == pytest.approx(norms, rel=1e-3)  # Adam hides a wrong scale
    assert alone.losses[0] > alone.losses[-1]


@pytest.mark.parametrize(("method", "sharding"), VARIANTS)
def test_killed_rank_and_resume_give_bit_equal_losses(method, sharding, model_folder, tmp_path):
    """One of two processes dies: the survivors cannot go on, and the next attempt of both goes on
    from the checkpoint as if nothing had happened, dropout included."""
    config = _configure(method, sharding, dropout=0.3, early_stopping_patience=3)
    rows = (ROWS, VALIDATION)
    whole, _ = run_ranks(2, fit_in_group, 0, config, model_folder, tmp_path / "whole", *rows)
    folder = tmp_path / "killed"
    run_ranks(2, fit_in_group, 4, config, model_folder, folder, *rows)
    saved = sorted((folder / "store" / "checkpoints").iterdir())
    assert 1 <= len(saved) <= 4
    resumed, _ = run_ranks(2, fit_in_group, 0, config, model_folder, folder, *rows)
    assert resumed["losses"] == whole["losses"]
    assert resumed["validation"] == whole["validation"]


def test_shards_are_shards(model_folder, tmp_path):
    """Each rank holds half of parameters and moments, as DTensors: launchers have been seen to
    train replicas in silence where shards were asked for."""
    sizes = run_ranks(2, inspect_shards, _configure("full", "fullShard"), model_folder)
    for held, total, all_sharded in sizes:
        assert all_sharded
        assert held <= 0.6 * total
    assert sum(held for held, _, _ in sizes) == sizes[0][1]


def test_sharded_run_resumes_on_one_process(model_folder, tmp_path):
    """A job that lost a worker for good: the shards are joined, the same rows follow, and the
    loss is within the promise for another number of workers."""
    config = _configure("full", "fullShard", checkpoint_every_seconds=0)
    whole, _ = run_ranks(2, fit_in_group, 0, config, model_folder, tmp_path / "whole", ROWS)
    folder = tmp_path / "moved"
    run_ranks(2, fit_in_group, 4, config, model_folder, folder, ROWS)
    events = []
    resumed = fit(config, model_folder, folder, ROWS, on_event=events.append)
    assert events[0]["step"] >= 1
    assert resumed.losses == pytest.approx(whole["losses"], abs=1e-4)


def test_sharded_model_is_saved_whole(model_folder, tmp_path):
    """What is published from shards loads as an ordinary model and has the last loss measured."""
    config = _configure("full", "fullShard")
    result, _ = run_ranks(2, fit_in_group, 0, config, model_folder, tmp_path, ROWS, VALIDATION)
    loaded = load_base(tmp_path / "out", device="cpu", dtype=torch.float32)
    batch = collate(VALIDATION)
    with torch.no_grad():
        loss = SupervisedObjective(loaded)(batch).item() / len(batch.targets)
    assert loss == pytest.approx(min(loss for _, loss in result["validation"]), abs=1e-4)


def test_best_weights_wait_for_every_shard(model_folder, tmp_path):
    """Rank 0 returns to the best checkpoint when all ranks have stored their shards of it: with
    its own alone the checkpoint is not there yet, and a whole training would be lost."""
    config = make_config(
        method="full",
        sharding="fullShard",
        num_workers=2,
        learning_rate=0.3,  # from the first validation to the second the loss rises
        max_steps=16,
        eval_every_steps=8,
        checkpoint_every_seconds=3600,
    )
    args = (config, model_folder, tmp_path, ROWS, VALIDATION)
    result, _ = run_ranks(2, fit_with_a_late_shard, *args)
    assert (result["best_step"], result["steps"]) == (8, 16)


def test_bf16_shards_follow_bf16_replicas(model_folder, tmp_path):
    """Both compute in bf16 by autocast from fp32 parameters and reduce in fp32."""
    runs = [
        run_ranks(
            2,
            fit_in_group,
            0,
            _configure("full", sharding, precision="bf16"),
            model_folder,
            tmp_path / sharding,
            ROWS,
        )[0]["losses"]
        for sharding in ("none", "fullShard")
    ]
    assert runs[0] == pytest.approx(runs[1], abs=1e-2)


def test_steps_have_the_same_rows_on_any_number_of_ranks(model_folder, tmp_path):
    """Recorded where they enter the model, not where they are planned."""
    config = _configure("lora", "none")
    plan = BatchPlan(len(ROWS), config.global_batch, config.seed)
    expected = [sorted(ROWS[row].id for row in plan.select_rows(step)) for step in range(6)]
    for world_size in (1, 2):
        folder = tmp_path / str(world_size)
        ranks = run_ranks(world_size, record_rows, config, model_folder, folder, ROWS)
        seen = [sorted(name for rank in ranks for name in rank[step]) for step in range(6)]
        assert seen == expected
