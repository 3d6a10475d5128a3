"""A FineTuneJob, applied to a cluster where Helm has installed Loam, becomes an adapter in S3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.tools.custom_objects import FineTuneJobs
from tests.tools.node import Node
from tests.tools.s3_server import S3Server
from tests.tools.tiny_job import write_job
from tests.tools.waiting import wait_until

from loam_runtime.storage.registry import open_store
from loam_runtime.storage.transfer import upload_folder

TIMEOUT_SECONDS = 400
SECRET = "storage"
SMALL = {
    "head": {"cpu": "200m", "memory": "3Gi"},
    "worker": {"cpu": "300m", "memory": "3Gi"},
}


def test_an_applied_job_becomes_an_adapter(
    node: Node,
    release: None,
    pod_s3_server: S3Server,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """The one promise of the project: apply one object, find an adapter and a report."""
    for name, value in pod_s3_server.env.items():
        monkeypatch.setenv(name, value)
    bucket = pod_s3_server.create_bucket()
    manifest = write_inputs(tmp_path, bucket)
    create_secret(node, namespace, pod_s3_server)
    jobs = FineTuneJobs(node.control_plane.client, namespace)
    jobs.create(manifest)

    def read_end() -> dict[str, Any]:
        status: dict[str, Any] = jobs.read("tiny").get("status", {})
        return status if status.get("phase") in ("Succeeded", "Failed") else {}

    status = wait_until(read_end, "the job's end", TIMEOUT_SECONDS)
    assert status["phase"] == "Succeeded", status
    conditions = {one["type"]: one["status"] for one in status["conditions"]}
    assert conditions["Ready"] == "True"
    stored = pod_s3_server.create_client().list_objects_v2(Bucket=bucket, Prefix="out/")
    names = {item["Key"].rpartition("/")[2] for item in stored["Contents"]}
    assert {"adapter_model.safetensors", "report.html", "latest.json", "_SUCCESS"} <= names


def write_inputs(folder: Path, bucket: str) -> dict[str, Any]:
    """Put a tiny model and rows into the bucket; the manifest of a job that trains on them."""
    path = write_job(
        folder,
        model={"uri": f"s3://{bucket}/in/model"},
        data={
            "task": "classification",
            "seeds": {"uri": f"s3://{bucket}/in/seeds.jsonl"},
            "test": {"uri": f"s3://{bucket}/in/test.jsonl"},
        },
        output={"uri": f"s3://{bucket}/out", "secretRef": {"name": SECRET}},
        compute=SMALL,
    )
    store = open_store(f"s3://{bucket}")
    upload_folder(folder / "model", store, "in/model")
    for name in ("seeds.jsonl", "test.jsonl"):
        store.upload_file(folder / name, f"in/{name}")
    manifest: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return manifest


def create_secret(node: Node, namespace: str, server: S3Server) -> None:
    """The Secret that the job's `output.secretRef` names."""
    secret = {"metadata": {"name": SECRET}, "stringData": dict(server.env)}
    client.CoreV1Api(node.control_plane.client).create_namespaced_secret(namespace, secret)
