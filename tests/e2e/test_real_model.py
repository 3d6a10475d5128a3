"""A real model of 270 M parameters, from `kubectl apply` to its adapter in object storage."""

from __future__ import annotations

from tests.tools.control_plane import ROOT
from tests.tools.node_job import NodeJob
from tests.tools.waiting import wait_until

MODEL = ROOT / "examples" / "models" / "gemma-3-270m-q4_k_m.gguf"
TIMEOUT_SECONDS = 900


def test_an_applied_job_becomes_an_adapter(job: NodeJob):
    """The one promise of the project: apply one object, find an adapter and a report; and graphs
    of it on the way, from the job's head and from the operator."""
    job.apply(
        model=MODEL,
        training={"method": "lora", "epochs": 1, "globalBatch": 8},
        evaluation={"inContextShots": 1, "maxNewTokens": 4},
        compute={
            "workers": {"min": 2, "max": 2},
            "head": {"cpu": "200m", "memory": "5Gi"},
            "worker": {"cpu": "300m", "memory": "5Gi"},
        },
    )
    job.await_reason("Training", timeout_seconds=TIMEOUT_SECONDS)
    wait_until(lambda: 'state="running"} 1.0' in job.scrape(), "a stage in the head's metrics")
    status = job.await_success(TIMEOUT_SECONDS)
    fleet = job.scrape_operator()
    phase = f'job_namespace="{job.namespace}",phase="Succeeded"'
    assert f"loam_operator_jobs{{{phase}}} 1.0" in fleet
    assert "loam_operator_is_leader 1.0" in fleet
    conditions = {one["type"]: one["status"] for one in status["conditions"]}
    assert conditions["Ready"] == conditions["Complete"] == "True"
    assert status["metrics"]["name"] == "accuracy"
    names = {key.rpartition("/")[2] for key in job.list_keys()}
    assert {"adapter_model.safetensors", "report.html", "latest.json", "_SUCCESS"} <= names
    job.delete()
