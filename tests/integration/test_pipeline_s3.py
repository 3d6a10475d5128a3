"""A whole job whose model, data and output are in S3, with a teacher over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tools.fault_teacher import serve_script
from tests.tools.s3_server import S3Server
from tests.tools.tiny_job import run_loam, write_examples, write_job

from loam_runtime.storage.transfer import upload_folder


def test_seeds_in_s3_adapter_in_s3(tmp_path: Path, s3_server: S3Server, monkeypatch) -> None:
    """Everything a job reads and writes can be in object storage, and workers find it there."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    bucket = s3_server.create_bucket()
    with serve_script(write_examples) as teacher:
        openai = {
            "baseURL": teacher.base_url,
            "model": "scripted",
            "apiKeySecretRef": {"name": "teacher", "key": "LOAM_TEST_KEY"},
        }
        manifest = write_job(
            tmp_path,
            model={"uri": f"s3://{bucket}/in/model"},
            data={
                "task": "classification",
                "seeds": {"uri": f"s3://{bucket}/in/seeds.jsonl"},
                "test": {"uri": f"s3://{bucket}/in/test.jsonl"},
            },
            synthesis={"targetCount": 6, "teacher": {"kind": "openai", "openai": openai}},
            output={"uri": f"s3://{bucket}/out"},
        )
        _upload_inputs(tmp_path, bucket)
        cache = tmp_path / "cache"
        done = run_loam("run", str(manifest), "--json", cache=cache, LOAM_TEST_KEY="sk-hidden-1234")
        assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["run"]
    assert run["adapter"] == f"s3://{bucket}/out/runs/{run['runKey']}/adapter"
    client = s3_server.create_client()
    stored = client.list_objects_v2(Bucket=bucket, Prefix="out/")["Contents"]
    keys = {item["Key"].removeprefix(f"out/runs/{run['runKey']}/") for item in stored}
    assert {"_SUCCESS", "manifest.json", "report.html", "out/latest.json"} <= keys
    for item in stored:
        body = client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
        assert b"sk-hidden-1234" not in body
    answered = run_loam("predict", str(manifest), "love parcel", cache=cache)
    assert answered.returncode == 0, answered.stderr


def _upload_inputs(folder: Path, bucket: str) -> None:
    from loam_runtime.storage.registry import open_store

    store = open_store(f"s3://{bucket}")
    upload_folder(folder / "model", store, "in/model")
    for name in ("seeds.jsonl", "test.jsonl"):
        store.upload_file(folder / name, f"in/{name}")
