"""`loam plan` of a model in a store: the figures of the local one, and no weight is fetched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tools.fault_proxy import run_fault_proxy
from tests.tools.hub_server import run_hub_server
from tests.tools.s3_server import S3Server
from tests.tools.tiny_job import run_cold_loam, write_job
from tests.tools.tiny_models import write_tiny_gguf

from loam_runtime.storage.s3 import S3Store
from loam_runtime.storage.transfer import upload_folder

SHARD_BYTES = 8 << 20
NUM_TOKENS = 300_000  # a vocabulary whose part of the header takes more than one read
MAX_PLAN_BYTES = 256 << 10  # of a folder: config, index, and the first bytes of two shards
MAX_GGUF_BYTES = 12 << 20  # of a file of 44 MB whose header has 5

Plan = dict[str, Any]
# Plans the model that is at a path in a store; gives the plan and how many bytes the store sent.
Planner = Callable[[str], tuple[Plan, int]]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job's folder, with the same architecture once as two large shards and once as a .gguf."""
    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("job")
    write_job(folder)
    model = folder / "model"
    (model / "model.safetensors").unlink()
    shards = {f"model-{index}-of-2.safetensors": f"tensor.{index}" for index in (1, 2)}
    for name, tensor in shards.items():
        save_file({tensor: np.zeros(SHARD_BYTES // 4, np.float32)}, model / name)
    weight_map = {tensor: name for name, tensor in shards.items()}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "quantized").mkdir()
    write_tiny_gguf(folder / "quantized" / "m.gguf", num_tokens=NUM_TOKENS)
    return folder


def plan_model(folder: Path, uri: str, **environment: str) -> Plan:
    manifest = folder / "plan.yaml"
    text = (folder / "job.yaml").read_text().replace("file://./model", uri)
    manifest.write_text(text)
    cache = folder / "cache"
    done = run_cold_loam("plan", str(manifest), "--json", cache=cache, **environment)
    assert done.returncode == 0, done.stderr
    assert not (cache / "downloads").exists(), "a plan keeps nothing of what it looked at"
    return json.loads(done.stdout)


@pytest.fixture(params=["s3", "hf"])
def plan_remote(request: pytest.FixtureRequest, job: Path) -> Planner:
    return request.getfixturevalue(f"plan_{request.param}")


@pytest.fixture
def plan_s3(job: Path, s3_server: S3Server, s3_bucket: str) -> Iterator[Planner]:
    upload_folder(job, S3Store(s3_bucket), "some")
    with run_fault_proxy(s3_server.endpoint) as proxy:

        def plan(path: str) -> tuple[Plan, int]:
            uri = f"s3://{s3_bucket}/some/{path}"
            resolved = plan_model(job, uri, AWS_ENDPOINT_URL=proxy.endpoint)
            return resolved, proxy.num_answered_bytes

        yield plan


@pytest.fixture
def plan_hf(job: Path) -> Iterator[Planner]:
    with run_hub_server() as hub:
        hub.files = {
            path.relative_to(job).as_posix(): path.read_bytes()
            for path in job.rglob("*")
            if path.is_file()
        }

        def plan(path: str) -> tuple[Plan, int]:
            resolved = plan_model(job, f"hf://owner/name/{path}", HF_ENDPOINT=hub.endpoint)
            return resolved, hub.sent_bytes.total()

        yield plan


@pytest.mark.parametrize(
    ("path", "max_bytes"),
    [
        ("model", MAX_PLAN_BYTES),
        ("quantized/m.gguf", MAX_GGUF_BYTES),
    ],
)
def test_a_plan_fetches_headers_alone(
    job: Path, plan_remote: Planner, path: str, max_bytes: int
) -> None:
    """A plan that downloads the model first takes minutes, and a disk, before it says a word."""
    planned, num_bytes = plan_remote(path)
    assert planned == plan_model(job, f"file://{job / path}")
    assert 0 < num_bytes < max_bytes
