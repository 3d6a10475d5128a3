"""A whole `loam run` over a failing S3 server, and one that is killed while it publishes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.tools.fault_proxy import Fault, FaultProxy, Gate, run_fault_proxy
from tests.tools.s3_server import S3Server
from tests.tools.tiny_job import run_loam, start_loam, write_job

from loam_runtime.export.manifest import verify_manifest
from loam_runtime.storage.registry import open_store
from loam_runtime.storage.transfer import download_folder, upload_folder

pytestmark = pytest.mark.usefixtures("without_ray")

GATE_SECONDS = 600
# The objects of a publication, in the order of their writing.
PUBLICATION = ("manifest.json", "_SUCCESS", "latest.json")


def build_faults() -> list[Fault]:
    """A quarter of all requests meets one of these, as long as the job takes."""
    return [
        Fault("busy", -1, "PUT", every=11),
        Fault("drop_request", -1, "PUT", after_bytes=0, every=9),
        Fault("drop_answer", -1, "PUT", every=10),
        Fault("busy", -1, "GET", every=9),
        Fault("cut_answer", -1, "GET", after_bytes=500, every=7),
    ]


@dataclass(frozen=True, slots=True)
class Job:
    """A job with all it reads and writes in a bucket, on a server.

    Attributes:
        folder: of its manifest, and of its cache.
    """

    folder: Path
    bucket: str
    server: S3Server

    @property
    def command(self) -> tuple[str, str, str]:
        return ("run", str(self.folder / "job.yaml"), "--json")

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def run(self, **environment: str) -> dict[str, Any]:
        """Run it to its end; what it printed."""
        done = run_loam(*self.command, cache=self.cache, **{**self.server.env, **environment})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def read(self, key: str) -> Any:
        """An object of JSON of its output; None where there is none."""
        client = self.server.create_client()
        try:
            body = client.get_object(Bucket=self.bucket, Key=f"out/{key}")["Body"]
        except client.exceptions.NoSuchKey:
            return None
        return json.loads(body.read())

    def read_results(self, run_key: str, copy: Path) -> dict[str, Any]:
        """What equal runs share, after every published file was found to be as its hash says."""
        download_folder(open_store(f"s3://{self.bucket}/out"), f"runs/{run_key}", copy)
        verify_manifest(copy)
        return {
            "split": json.loads((copy / "data/split.json").read_text()),
            "losses": json.loads((copy / "training/result.json").read_text())["losses"],
            "answers": (copy / "evaluation/tuned.jsonl").read_text(),
        }


def write_s3_job(folder: Path, server: S3Server, bucket: str, *, epochs: int = 2) -> Job:
    """The job, and its inputs in the bucket."""
    write_job(
        folder,
        model={"uri": f"s3://{bucket}/in/model"},
        data={
            "task": "classification",
            "seeds": {"uri": f"s3://{bucket}/in/seeds.jsonl"},
            "test": {"uri": f"s3://{bucket}/in/test.jsonl"},
        },
        training={"method": "lora", "learningRate": 0.01, "epochs": epochs, "globalBatch": 8},
        output={"uri": f"s3://{bucket}/out"},
    )
    store = open_store(f"s3://{bucket}")
    upload_folder(folder / "model", store, "in/model")
    for name in ("seeds.jsonl", "test.jsonl"):
        store.upload_file(folder / name, f"in/{name}")
    return Job(folder, bucket, server)


@pytest.fixture(autouse=True)
def _reach_the_server(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    with run_fault_proxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> tuple[Job, str]:
    """A job that nothing disturbed, and the key of its run."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.env.items():
            patch.setenv(name, value)
        folder, bucket = tmp_path_factory.mktemp("undisturbed"), s3_server.create_bucket()
        job = write_s3_job(folder, s3_server, bucket)
        return job, job.run()["run"]["runKey"]


def test_a_job_through_a_failing_store_ends_as_any_other(
    published: tuple[Job, str], proxy: FaultProxy, s3_server: S3Server, tmp_path: Path
) -> None:
    """Answers 503, connections that break on the way up and down, from the first request to the
    last: the run ends by itself, whole, with the split, losses and answers of one undisturbed."""
    undisturbed, run_key = published
    job = write_s3_job(tmp_path / "job", s3_server, s3_server.create_bucket())
    faults = build_faults()
    proxy.further_faults = faults
    disturbed_key = job.run(AWS_ENDPOINT_URL=proxy.endpoint)["run"]["runKey"]
    assert min(fault.num_hits for fault in faults) >= 2, faults
    expected = undisturbed.read_results(run_key, tmp_path / "expected")
    assert job.read_results(disturbed_key, tmp_path / "disturbed") == expected
    assert job.read("latest.json")["runKey"] == disturbed_key


def test_killed_between_the_writes_of_its_publication(
    published: tuple[Job, str], proxy: FaultProxy, s3_server: S3Server, tmp_path: Path
) -> None:
    """kill -9 before each object that declares a run finished, then the same command: readers
    see the run before, then the whole new one, and never a run of which something is missing."""
    earlier, earlier_key = published
    job = write_s3_job(tmp_path / "job", s3_server, earlier.bucket, epochs=3)
    for place, name in enumerate(PUBLICATION):
        run_key = kill_before(job, proxy, name)
        assert run_key != earlier_key
        written = [key for key in PUBLICATION[:2] if job.read(f"runs/{run_key}/{key}")]
        assert written == list(PUBLICATION[:place])
        assert job.read("latest.json")["runKey"] == earlier_key
    shown = run_loam("report", job.command[1], "--json", cache=job.cache, **s3_server.env)
    assert json.loads(shown.stdout)["runKey"] == earlier_key
    outcome = job.run()
    assert outcome["was_finished"], "of a run that has _SUCCESS nothing is done again"
    assert outcome["run"]["runKey"] == run_key
    assert job.read("latest.json")["runKey"] == run_key
    job.read_results(run_key, tmp_path / "copy")


def kill_before(job: Job, proxy: FaultProxy, name: str) -> str:
    """Start the job, and kill it when it is about to write that object; the key of its run."""
    gate = proxy.gate = Gate(rf"PUT /{job.bucket}/out/(runs/\w+/)?{name}")
    environment = {**job.server.env, "AWS_ENDPOINT_URL": proxy.endpoint}
    with start_loam(*job.command, cache=job.cache, **environment) as process:
        reached = gate.reached.wait(GATE_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
        _, errors = process.communicate()
    gate.open()
    assert reached, f"{name} was never written:\n{errors}"
    return find_run_key(job)


def find_run_key(job: Job) -> str:
    """The key of the run that this job's lock was taken for last."""
    client = job.server.create_client()
    listed = client.list_objects_v2(Bucket=job.bucket, Prefix="out/runs/")["Contents"]
    locks = [item for item in listed if item["Key"].endswith("/lock.json")]
    return max(locks, key=lambda item: item["LastModified"])["Key"].split("/")[2]
