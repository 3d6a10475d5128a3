"""The loop under Ray Train: the same training, restarts after a lost worker, errors as they are."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import ray
from tests.tools.tiny_models import build_tiny_model
from tests.tools.training_tools import fit, make_config, make_rows

from loam_runtime.errors import InputError, WorkersLostError
from loam_runtime.storage.registry import open_store
from loam_runtime.storage.run_store import RunStore
from loam_runtime.training import ray_adapter
from loam_runtime.training.drain import FOLDER_VARIABLE, drain_pod
from loam_runtime.training.ray_adapter import connect_ray
from loam_runtime.training.ray_adapter import fit as fit_on_ray
from loam_runtime.training.rows import write_encoded
from loam_runtime.training.run_address import RunAddress
from loam_runtime.training.shared_inputs import ModelSource

ROWS, VALIDATION = make_rows(21), make_rows(5, seed=1)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("models") / "gemma3")


@pytest.fixture(scope="module")
def drain_folder(tmp_path_factory):
    """Where a pod's preStop hook and its workers would meet."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("drain")
        patch.setenv(FOLDER_VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="module", autouse=True)
def _ray(drain_folder):
    """One Ray for all tests of this file: it takes seconds to start."""
    with connect_ray(num_workers=2):
        yield


@pytest.fixture
def run_on_ray(model_folder, tmp_path):
    """Call it with a configuration and a listener; again to resume."""
    write_encoded(ROWS, tmp_path / "train.arrow")
    write_encoded(VALIDATION, tmp_path / "validation.arrow")
    run = RunStore(open_store(f"file://{tmp_path}/output"), "run")
    run.acquire("job", 1)
    address = RunAddress(f"file://{tmp_path}/output", "run", run.token)

    def run_fit(config, on_event):
        return fit_on_ray(
            config,
            model_folder,
            tmp_path / "train.arrow",
            tmp_path / "validation.arrow",
            model=ModelSource(f"file://{model_folder}"),
            run=address,
            work_dir=tmp_path / "work",
            output_dir=tmp_path / "adapter",
            on_event=on_event,
        )

    return run_fit


def test_interrupt_and_resume(run_on_ray, model_folder, tmp_path):
    """Ctrl-C makes the worker save its step, though no checkpoint was due; the next call goes on
    from there and ends with the losses of a run without Ray and without interruption."""
    # A low rate: over 200 steps a high one amplifies the last bit, which depends on threads.
    config = make_config(
        checkpoint_every_seconds=3600, max_steps=200, eval_every_steps=100, learning_rate=1e-4
    )

    def interrupt(event):
        if event["event"] == "step":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_on_ray(config, interrupt)
    events = []
    result = run_on_ray(config, events.append)
    assert events[0]["event"] == "start"
    assert events[0]["step"] > 0
    plain = fit(config, model_folder, tmp_path / "plain", ROWS, VALIDATION)
    assert result.losses == pytest.approx(plain.losses, abs=1e-4)
    assert {event["event"] for event in events} == {"start", "step", "validation", "checkpoint"}
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


def test_lost_worker_is_replaced(run_on_ray, model_folder, tmp_path):
    """One of two workers is killed: Ray restarts both, they resume from the newest checkpoint,
    and the losses are those of one process."""
    # Many steps, so that the kill comes before the last; a low rate, as above.
    config = make_config(num_workers=2, max_steps=40, global_batch=7, learning_rate=1e-4)
    events = []

    def kill_once(event):
        if event["event"] == "step" and not any(e["event"] == "step" for e in events):
            os.kill(events[0]["pid"], signal.SIGKILL)
        events.append(event)

    result = run_on_ray(config, kill_once)
    starts = [event for event in events if event["event"] == "start"]
    assert len(starts) == 2
    assert starts[0]["pid"] != starts[1]["pid"]
    assert {event["num_workers"] for event in starts} == {2}
    plain = fit(config, model_folder, tmp_path / "plain", ROWS, VALIDATION)
    assert result.losses == pytest.approx(plain.losses, abs=1e-4)


def test_workers_may_be_lost_as_often_as_checkpoints_come(run_on_ray, monkeypatch):
    """On spot nodes a training of days loses workers every hour, and must not end by their number;
    where none lives for a checkpoint, it must end, as what it is."""
    monkeypatch.setattr(ray_adapter, "_MAX_RESTARTS", 0)
    starts, killed = [], []

    def kill_behind_a_checkpoint(event):
        if event["event"] == "start":
            starts.append(event)
        if len(starts) == 2:
            raise KeyboardInterrupt
        if event["event"] == "checkpoint" and not killed:
            killed.append(starts[0]["pid"])
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(KeyboardInterrupt):
        run_on_ray(make_config(max_steps=10_000), kill_behind_a_checkpoint)
    assert 0 == starts[0]["step"] < starts[1]["step"]

    def kill_at_once(event):
        if event["event"] == "start":
            starts.append(event)
            os.kill(event["pid"], signal.SIGKILL)

    with pytest.raises(WorkersLostError, match="no checkpoint in between"):
        run_on_ray(make_config(max_steps=10_000, checkpoint_every_seconds=3600), kill_at_once)
    assert len(starts) == 3


def test_a_drained_pod_waits_for_its_checkpoint(run_on_ray, drain_folder):
    """The hook of a pod that goes returns when a checkpoint is stored that nobody had planned;
    the training goes on, as the other pods may stay."""
    config = make_config(
        checkpoint_every_seconds=3600, max_steps=200, eval_every_steps=200, learning_rate=1e-4
    )
    events, answers = [], []
    hook = threading.Thread(target=lambda: answers.append(drain_pod(drain_folder)))

    def drain_once(event):
        if event["event"] == "step" and not hook.ident:
            hook.start()
        events.append(event)

    try:
        run_on_ray(config, drain_once)
        hook.join(60)
    finally:
        (drain_folder / "requested").unlink(missing_ok=True)
    assert answers == [True]
    saved = [event["step"] for event in events if event["event"] == "checkpoint"]
    assert len(saved) == 2
    assert saved[0] < saved[1] == 200


def test_workers_are_as_nice_as_the_command():
    """Ray's own default is the lowest priority but four: training would stand still for minutes
    beside a browser, where the command that waits for it does not."""
    assert ray.get(ray.remote(lambda: os.nice(0)).remote()) == os.nice(0)


def test_error_of_the_job_is_not_retried(run_on_ray):
    """Wrong input stays wrong: it comes back as what it is, after one attempt."""
    events = []
    with pytest.raises(InputError, match="targetModules"):
        run_on_ray(make_config(target_modules=("w_q",)), events.append)
    assert events == []
