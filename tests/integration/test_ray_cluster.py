"""A Ray cluster of several nodes: workers see nothing of the driver's disk."""

from __future__ import annotations

import numpy as np
import pytest
from tests.tools.tiny_job import write_job
from tests.tools.tiny_models import build_tiny_model
from tests.tools.training_tools import fit, make_config, make_rows
from tests.tools.waiting import wait_until

from loam_runtime.manifest import load_manifest
from loam_runtime.model_workers import open_model_pool
from loam_runtime.sources import fetch_sources
from loam_runtime.steps.context import InputContext
from loam_runtime.storage.registry import open_store
from loam_runtime.storage.run_store import RunStore
from loam_runtime.training import ray_adapter
from loam_runtime.training.ray_adapter import fit as fit_on_ray
from loam_runtime.training.rows import write_encoded
from loam_runtime.training.run_address import RunAddress
from loam_runtime.training.shared_inputs import ModelSource

ROWS, VALIDATION = make_rows(21), make_rows(5, seed=1)
SMALL = {"object_store_memory": 128 * 2**20}


@pytest.fixture(scope="module")
def nodes():
    """One cluster for all tests of this file, as KubeRay makes it of pods: a head that takes no
    work, and for now one node of a CPU."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
        made.add_node(num_cpus=1, **SMALL)
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        made.shutdown()


@pytest.fixture
def cluster(nodes):
    """With two nodes."""
    while len(nodes.worker_nodes) < 2:
        nodes.add_node(num_cpus=1, **SMALL)
    return nodes


def train(config, folder, on_event):
    """Train in `folder`; the model is at an address of its own, and not where the driver has it."""
    model_folder = build_tiny_model(folder / "gemma3")
    for name, rows in (("train", ROWS), ("validation", VALIDATION)):
        write_encoded(rows, folder / f"{name}.arrow")
    output = f"file://{folder}/output"
    run = RunStore(open_store(output), "run")
    run.acquire("job", 1)
    return fit_on_ray(
        config,
        folder / "on-the-driver-only",
        folder / "train.arrow",
        folder / "validation.arrow",
        model=ModelSource(f"file://{model_folder}"),
        run=RunAddress(output, "run", run.token),
        work_dir=folder / "work",
        output_dir=folder / "adapter",
        on_event=on_event,
    )


def test_a_training_grows_when_a_node_comes(nodes, tmp_path, monkeypatch):
    """Where there was room for one of two workers, the other joins behind the newest checkpoint:
    else a job that started on one free GPU would train for days beside others that are free."""
    monkeypatch.setattr(ray_adapter, "_RESIZE_SECONDS", 0.5)
    while len(nodes.worker_nodes) > 1:
        nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=True)
    starts, steps = [], []

    def grow(event):
        if event["event"] == "start":
            starts.append(event)
        if event["event"] == "step":
            steps.append(event["step"])
            if len(steps) == 1:
                nodes.add_node(num_cpus=1, **SMALL)
            if len(starts) == 2:
                raise KeyboardInterrupt

    config = make_config(num_workers=2, min_workers=1, max_steps=10_000)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, grow)
    assert [event["num_workers"] for event in starts] == [1, 2]
    assert starts[1]["step"] > 0


def test_workers_fetch_model_and_rows(cluster, tmp_path):
    """The driver's paths mean nothing in another pod; the losses are those of one process."""
    config = make_config(num_workers=2, max_steps=4, global_batch=7)
    result = train(config, tmp_path, lambda event: None)
    plain = fit(config, tmp_path / "gemma3", tmp_path / "plain", ROWS, VALIDATION)
    assert result.losses == pytest.approx(plain.losses, abs=1e-4)
    assert (tmp_path / "work" / "rows" / "train.arrow").exists()
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


def test_the_base_model_goes_to_every_node(cluster, tmp_path, monkeypatch):
    """Nodes fetch the model from where the job says. When one of them is gone and none comes in its
    place, the other does all the work, and nobody waits for the third at the end; the scores are
    those of one process."""
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))
    job = load_manifest(write_job(tmp_path, compute={"workers": {"min": 1, "max": 2}}))
    context = InputContext(job, tmp_path, fetch_sources(job.spec, tmp_path))
    prompts = [[7, 8, 9, number] for number in range(5, 45)]
    candidates = [[11, 1], [12, 13, 1]]
    expected = context.base_model.score(prompts, candidates, batch_size=2)
    context.model_folder = tmp_path / "on-the-driver-only"
    losses = []
    with open_model_pool(context, 2, losses.append) as pool:

        def is_same():
            return np.array_equal(pool.score(prompts, candidates, batch_size=2), expected)

        assert is_same()
        wait_until(lambda: all(one._is_loaded for one in pool._replicas), "both actors")
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        # A node's processes may outlive it for a moment, and until Ray notices, what comes in the
        # lost one's place may be put there too.
        while not losses:
            assert is_same()
        assert is_same()
