"""Training on a Ray cluster of several nodes: workers see nothing of the driver's disk."""

from __future__ import annotations

import pytest
from tests.tools.tiny_models import build_tiny_model
from tests.tools.training_tools import fit, make_config, make_rows

from loam_runtime.storage.registry import open_store
from loam_runtime.storage.run_store import RunStore
from loam_runtime.training.ray_adapter import fit as fit_on_ray
from loam_runtime.training.rows import write_encoded
from loam_runtime.training.run_address import RunAddress
from loam_runtime.training.shared_inputs import ModelSource

pytestmark = pytest.mark.timeout(900)

ROWS, VALIDATION = make_rows(21), make_rows(5, seed=1)


@pytest.fixture
def cluster_address(monkeypatch):
    """A head that takes no work and two nodes with a CPU each, as KubeRay makes them of pods."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small = {"object_store_memory": 128 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    for _ in range(2):
        cluster.add_node(num_cpus=1, **small)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster.address
    cluster.shutdown()


def test_workers_fetch_model_and_rows(cluster_address, tmp_path):
    """The driver's paths mean nothing in another pod; the losses are those of one process."""
    model_folder = build_tiny_model(tmp_path / "gemma3")
    for name, rows in (("train", ROWS), ("validation", VALIDATION)):
        write_encoded(rows, tmp_path / f"{name}.arrow")
    output = f"file://{tmp_path}/output"
    run = RunStore(open_store(output), "run")
    run.acquire("job", 1)
    config = make_config(num_workers=2, max_steps=4, global_batch=7)
    result = fit_on_ray(
        config,
        tmp_path / "on-the-driver-only",
        tmp_path / "train.arrow",
        tmp_path / "validation.arrow",
        model=ModelSource(f"file://{model_folder}"),
        run=RunAddress(output, "run", run.token),
        work_dir=tmp_path / "work",
        output_dir=tmp_path / "adapter",
        on_event=lambda event: None,
    )
    plain = fit(config, model_folder, tmp_path / "plain", ROWS, VALIDATION)
    assert result.losses == pytest.approx(plain.losses, abs=1e-4)
    assert (tmp_path / "work" / "rows" / "train.arrow").exists()
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
