"""The steps of a job in a Ray cluster: a head that takes no work, and workers that can be lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tools.fault_teacher import serve_script
from tests.tools.tiny_job import write_examples, write_job

from loam_api.review import SPOT_CHECK_FILE, ReviewDecision
from loam_runtime.cluster_steps import prepare, use_workers
from loam_runtime.data.tables import read_table
from loam_runtime.errors import InputError
from loam_runtime.manifest import load_manifest
from loam_runtime.observability.progress import PlainProgress
from loam_runtime.pipeline import STAGES, Try, open_run
from loam_runtime.remote import PIPELINE_RESOURCE
from loam_runtime.synthesis.verdict_file import list_ids

pytestmark = pytest.mark.timeout(900)

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


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[RayNodes]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    running = RayNodes()
    monkeypatch.setenv("RAY_ADDRESS", running.address)
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
