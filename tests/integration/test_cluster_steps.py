"""The steps of a job in a Ray cluster: a head that takes no work, and workers that can be lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tools.fault_teacher import Call, Reply, serve_script
from tests.tools.free_text_job import is_trial, judge_well, write_free_text_job
from tests.tools.s3_server import S3Server
from tests.tools.tiny_job import write_examples, write_job

from loam_api.review import SPOT_CHECK_FILE, ReviewDecision
from loam_runtime.cluster_steps import prepare, use_workers
from loam_runtime.data.tables import read_table
from loam_runtime.errors import InputError
from loam_runtime.manifest import load_manifest
from loam_runtime.observability.progress import PlainProgress
from loam_runtime.pipeline import STAGES, Try, open_run
from loam_runtime.remote import PIPELINE_RESOURCE
from loam_runtime.storage.registry import open_store
from loam_runtime.storage.transfer import upload_folder
from loam_runtime.synthesis.verdict_file import list_ids

SMALL = {"object_store_memory": 128 * 2**20}


class RayNodes:
    """A Ray cluster whose nodes are made of processes, as KubeRay makes them of pods."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
        self.address = self._cluster.address
        self._worker = self._add()

    def replace_worker(self) -> None:
        """The worker is gone from one moment to the next, and another comes."""
        self._cluster.remove_node(self._worker, allow_graceful=False)
        self._worker = self._add()

    def _add(self):
        return self._cluster.add_node(num_cpus=1, resources={PIPELINE_RESOURCE: 1}, **SMALL)

    def stop(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def nodes(s3_server: S3Server) -> Iterator[RayNodes]:
    """One cluster for all tests of this file; its processes inherit where the S3 server is."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**s3_server.env, "RAY_USAGE_STATS_ENABLED": "0"}.items():
            patch.setenv(name, value)
        running = RayNodes()
        patch.setenv("RAY_ADDRESS", running.address)
        yield running
        running.stop()


class LosesWorker(PlainProgress):
    """Takes the worker away when a stage begins, once."""

    def __init__(self, nodes: RayNodes, stage: str) -> None:
        super().__init__(STAGES)
        self._nodes = nodes
        self._stage = stage
        self.started: list[str] = []

    def start_stage(self, stage: str) -> None:
        super().start_stage(stage)
        is_first = stage not in self.started
        self.started.append(stage)
        if stage == self._stage and is_first:
            self._nodes.replace_worker()


def test_a_lost_worker_is_followed_by_another(
    nodes: RayNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A pod may die at any time: the attempt goes on behind the stages that were done, on another
    worker, and the lost one's lock is worth nothing any more."""
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))
    # Two workers are wished for, and there is never more than one: it is enough to begin.
    job = load_manifest(write_job(tmp_path, compute={"workers": {"min": 1, "max": 2}}))
    first = Try(1, "uid", "a")
    prepared = prepare(job, tmp_path, first, PlainProgress(STAGES))
    assert not prepared.is_published
    assert prepared.worker_memory_bytes > 3 * 2**30
    assert (prepared.method, prepared.teacher_requests) == ("lora", 0)
    progress = LosesWorker(nodes, "baselines")
    result = use_workers(
        job,
        tmp_path,
        Try(2, "uid", "b"),
        progress,
        step="train",
        run_key=prepared.run_key,
        micro_batch_divisor=1,
    )
    assert (result.is_published, result.run_key) == (True, prepared.run_key)
    # The lost one may have come to the end of its stage before it was gone, and into the next.
    assert "baselines" in progress.started
    assert len(progress.started) > len(set(progress.started))
    assert progress.started.count("plan") == 1  # it was done when the worker was lost
    assert progress.started[0] == "download"  # with its GPU in hand: nobody else would say so
    run = open_run(job, tmp_path, prepared.run_key)
    assert json.loads(run.get("lock.json"))["token"] >= 4  # prepare, and each start on a worker
    logged = b"".join(run.get(one.key) for one in run.list("logs")).decode()
    assert "worker_lost" in logged
    again = prepare(job, tmp_path, Try(3, "uid", "c"), PlainProgress(STAGES))
    assert (again.is_published, again.method) == (True, "lora")


def test_what_the_head_alone_knows_is_told_before_a_worker_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Who watches a job would see neither its method nor what its teacher was asked for until it
    is published, hours later; a teacher without prices would seem to have done nothing."""
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))
    training = {"method": "auto", "epochs": 1}
    with serve_script(write_examples) as teacher:
        openai = {"baseURL": teacher.base_url, "model": "scripted"}
        synthesis = {"targetCount": 10, "teacher": {"kind": "openai", "openai": openai}}
        job = load_manifest(write_job(tmp_path, synthesis=synthesis, training=training))
        prepared = prepare(job, tmp_path, Try(1, "uid", "a"), PlainProgress(STAGES))
        again = prepare(job, tmp_path, Try(2, "uid", "b"), PlainProgress(STAGES))
    # The scripted server counts 40 tokens of prompt and 20 of answer.
    asked = (teacher.num_requests, 60 * teacher.num_requests)
    for told in (prepared, again):
        assert (told.method, told.cost) == ("qlora", "")
        assert "real rows, under 100" in told.method_reason
        assert (told.teacher_requests, told.teacher_tokens) == asked


def test_a_decision_reaches_the_rows_that_are_trained_on(
    nodes: RayNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What a person rejected by an annotation leaves the set in the pods, too; a row that is not
    there ends the step with its name, before anything is trained."""
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))
    with serve_script(write_examples) as teacher:
        openai = {"baseURL": teacher.base_url, "model": "scripted"}
        synthesis = {
            "targetCount": 10,
            "teacher": {"kind": "openai", "openai": openai},
            "spotCheck": {"sampleSize": 6, "required": True},
        }
        evaluation = {"baselines": ["majority"]}
        job = load_manifest(write_job(tmp_path, synthesis=synthesis, evaluation=evaluation))
        prepared = prepare(job, tmp_path, Try(1, "uid", "a"), PlainProgress(STAGES))
    assert not prepared.is_reviewed
    run = open_run(job, tmp_path, prepared.run_key)
    ids = list_ids(run.get(SPOT_CHECK_FILE))

    def train(attempt: int, *rows: str):
        decision = ReviewDecision(decision="rejected", by="anna", rejected_rows=list(rows))
        return use_workers(
            job,
            tmp_path,
            Try(attempt, "uid", f"attempt {attempt}"),
            PlainProgress(STAGES),
            step="train",
            run_key=prepared.run_key,
            micro_batch_divisor=1,
            review=decision.model_dump_json(),
        )

    with pytest.raises(InputError, match="no-such-row"):
        train(2, "no-such-row")
    assert not run.exists("stages/plan.json")
    result = train(3, ids[0])
    assert result.is_published
    # All that was asked for, though by another pod.
    assert (result.teacher_requests, result.method) == (teacher.num_requests, "lora")
    (tmp_path / "kept.parquet").write_bytes(run.get("data/synthetic.parquet"))
    kept = read_table(tmp_path / "kept.parquet")["id"]
    assert 0 < len(kept) < 10
    assert ids[0] not in kept


FINISH = """
import json, re, sys
from pathlib import Path
from loam_runtime.cluster_steps import finish
from loam_runtime.errors import LoamError
from loam_runtime.manifest import load_manifest
from loam_runtime.observability.progress import PlainProgress
from loam_runtime.pipeline import STAGES, Try

path, run_key, attempt = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
this_try = Try(attempt, "uid", f"attempt {attempt}")
try:
    job, progress = load_manifest(path), PlainProgress(STAGES)
    told = finish(job, path.parent, this_try, progress, run_key=run_key).model_dump(mode="json")
except LoamError as error:
    told = {"exit_code": int(error.exit_code), "spent_requests": error.spent_requests}
heavy = sorted({"torch", "transformers", "ray"} & set(sys.modules))
# Not getrusage: its maximum begins with that of the process that started this one.
rss = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps({**told, "heavy": heavy, "rss_mib": rss}))
"""


def finish_in_pod(manifest: Path, run_key: str, attempt: int) -> dict[str, Any]:
    """The step `finish` in a process and with a disk of its own."""
    cache = manifest.parent / f"pod-{attempt}"
    done = subprocess.run(
        [sys.executable, "-c", FINISH, str(manifest), run_key, str(attempt)],
        env={**os.environ, "LOAM_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["heavy"] == []
    assert told["rss_mib"] < 1024
    assert not list(cache.rglob("*.safetensors"))
    return told


def test_a_judge_of_answers_is_asked_when_the_workers_are_gone(
    s3_bucket: str,
    nodes: RayNodes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """No GPU waits for a judge: the training ends before it is asked, and a small pod without torch
    and without the weights does the rest. A pod that is lost in the middle has all its answers in
    S3, and a step that is started once more asks and publishes nothing again."""
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))

    def fail_after_trials(call: Call) -> Reply:
        return judge_well(call) if is_trial(call.question) else Reply(status=404)

    with serve_script(fail_after_trials) as server:
        openai = {"baseURL": server.base_url, "model": "judge-9b"}
        judge = {"openai": {**openai, "prices": {"prompt": 10, "completion": 20}}}
        manifest = write_free_text_job(
            tmp_path,
            judge,
            model={"uri": f"s3://{s3_bucket}/in/model"},
            output={"uri": f"s3://{s3_bucket}/out"},
        )
        upload_folder(tmp_path / "model", open_store(f"s3://{s3_bucket}"), "in/model")
        job = load_manifest(manifest)
        prepared = prepare(job, tmp_path, Try(1, "uid", "a"), PlainProgress(STAGES))
        assert server.num_requests == 1  # whether the judge is there, before a GPU is asked for
        options: dict[str, Any] = {"run_key": prepared.run_key, "micro_batch_divisor": 1}
        progress = PlainProgress(STAGES)
        trained = use_workers(job, tmp_path, Try(2, "uid", "b"), progress, step="train", **options)
        assert (trained.is_published, trained.method) == (False, "lora")
        assert trained.metrics is not None
        run = open_run(job, tmp_path, prepared.run_key)
        assert run.exists("stages/evaluate.json")
        assert not run.exists("stages/judge.json")
        assert server.num_requests == 1

        failed = finish_in_pod(manifest, prepared.run_key, 3)
        assert failed["exit_code"] == 12
        assert failed["spent_requests"] >= 40
        server.script = judge_well
        finished = finish_in_pod(manifest, prepared.run_key, 4)
        num_asked = server.num_requests
        again = finish_in_pod(manifest, prepared.run_key, 5)
        assert server.num_requests == num_asked
        assert server.num_repeated == 0
    assert (finished["exit_code"], finished["is_published"]) == (0, True)
    assert finished["teacher_requests"] >= 40
    assert float(finished["cost"]) > 0
    assert "The judge judge-9b" in finished["message"]
    assert {**again, "rss_mib": 0} == {**finished, "rss_mib": 0}
    assert run.is_finished()
