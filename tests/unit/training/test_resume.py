"""A killed run, started again, goes on as if it had never been killed."""

from __future__ import annotations

import signal

import pytest
from tests.tools.training_tools import fit, fit_and_die, make_config, make_rows, run_process

from loam_runtime.errors import InputError
from loam_runtime.training.drain import FOLDER_VARIABLE
from loam_runtime.training.methods.registry import METHODS

ROWS, VALIDATION = make_rows(20), make_rows(5, seed=1)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_kill_and_resume_give_bit_equal_losses(method, gemma_folder, tmp_path):
    """With dropout, warm-up, early stopping and moments under way: whatever the checkpoint left
    out would show in the losses after it."""
    config = make_config(
        method=method, dropout=0.3, eval_every_steps=2, early_stopping_patience=3, warmup=0.5
    )
    whole = fit(config, gemma_folder, tmp_path / "whole", ROWS, VALIDATION)
    folder = tmp_path / "killed"
    code = run_process(fit_and_die, 3, config, gemma_folder, folder, ROWS, VALIDATION)
    assert code == -signal.SIGKILL
    events = []
    resumed = fit(config, gemma_folder, folder, ROWS, VALIDATION, on_event=events.append)
    assert 0 < events[0]["step"] <= 3
    assert resumed.losses == whole.losses
    assert resumed.validation == whole.validation
    assert resumed.num_tokens == whole.num_tokens


def test_dropout_differs_by_step(gemma_folder, tmp_path):
    """Seeding every step must not mean the same mask in every step."""
    config = make_config(dropout=0.5, learning_rate=0.0, global_batch=20, max_steps=3)
    assert len(set(fit(config, gemma_folder, tmp_path, ROWS).losses)) == 1  # LoRA starts at 0
    config = make_config(dropout=0.5, learning_rate=1e-2, global_batch=20, max_steps=3)
    seeds = [fit(config, gemma_folder, tmp_path / str(index), ROWS).losses for index in range(2)]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 3


def test_finished_run_only_saves_again(gemma_folder, tmp_path):
    """A pipeline killed right after training must not train again."""
    first = fit(make_config(), gemma_folder, tmp_path, ROWS)
    events = []
    second = fit(make_config(), gemma_folder, tmp_path, ROWS, on_event=events.append)
    assert [event["event"] for event in events] == ["start"]
    assert second.losses == first.losses


def test_checkpoint_of_another_run_is_refused(gemma_folder, tmp_path):
    """Resuming with other data would silently mix two experiments."""
    fit(make_config(), gemma_folder, tmp_path, ROWS)
    with pytest.raises(InputError, match="belongs to another run"):
        fit(make_config(seed=1), gemma_folder, tmp_path, ROWS)


def test_interrupt_leaves_a_checkpoint(gemma_folder, tmp_path):
    """Ctrl-C between two checkpoints loses no step; the signal handlers are as before."""
    config = make_config(checkpoint_every_seconds=3600)

    def interrupt(event):
        if event["event"] == "step" and event["step"] == 2:
            signal.raise_signal(signal.SIGINT)

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        fit(config, gemma_folder, tmp_path, ROWS, on_event=interrupt)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    events = []
    fit(config, gemma_folder, tmp_path, ROWS, on_event=events.append)
    assert events[0]["step"] == 2


def test_a_pod_that_goes_is_saved_for(gemma_folder, tmp_path, monkeypatch):
    """The pod's processes end when its hook does: what is not stored by then is trained again.
    The training itself goes on, since only one of its pods may be going."""
    drain = tmp_path / "drain"
    monkeypatch.setenv(FOLDER_VARIABLE, str(drain))
    config = make_config(checkpoint_every_seconds=3600)
    events = []

    def ask(event):
        events.append(event)
        if event["event"] == "step" and event["step"] == 2:
            assert list(drain.glob("work-*")), "the pod waits for this process"
            (drain / "requested").touch()
        if event["event"] == "step" and event["step"] == 4:
            assert not list(drain.glob("work-*")), "it has saved: the pod may go"

    fit(config, gemma_folder, tmp_path, ROWS, on_event=ask)
    saved = [event["step"] for event in events if event["event"] == "checkpoint"]
    assert saved == [2, 6], "one for the request, and the last"
