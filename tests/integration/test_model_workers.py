"""The base model as its own teacher on Ray workers: the rows of one process, whoever is lost."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from tests.tools.tiny_job import write_job
from tests.tools.waiting import wait_until

from loam_runtime.data.loading import load_examples
from loam_runtime.data.prompt import build_contract
from loam_runtime.manifest import load_manifest
from loam_runtime.model_workers import open_model_pool
from loam_runtime.models.language_model import LanguageModel
from loam_runtime.models.pool import ModelPool
from loam_runtime.observability.monitor import NullMonitor, StageMonitor
from loam_runtime.sources import fetch_sources
from loam_runtime.steps.context import InputContext
from loam_runtime.steps.synthesize import open_teacher
from loam_runtime.synthesis.stage import SynthesisResult, synthesize
from loam_runtime.synthesis.teachers import SelfTeacher, Teacher
from loam_runtime.training.ray_adapter import connect_ray

TEXTS = ["Text: where is my parcel?\nLabel:", "Text: no\nLabel:", "Text: " + "late " * 30] * 11
LABELS = [" praise", " complaint"]


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """One Ray for all tests of this file: it takes seconds to start."""
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)  # as the actors: sums may depend on it
    with connect_ray(num_workers=3):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("job")


def build_context(folder: Path, num_workers: int) -> InputContext:
    synthesis = {
        "strategy": "inContext",
        "targetCount": 12,
        "teacher": {"kind": "self"},
        "sampling": {"maxTokens": 12},
    }
    compute = {"workers": {"min": 1, "max": num_workers}}
    job = load_manifest(write_job(folder, synthesis=synthesis, compute=compute))
    return InputContext(job, folder, fetch_sources(job.spec, folder))


def draw(
    context: InputContext, teacher: Teacher, journal: Path, monitor: StageMonitor | None = None
) -> SynthesisResult:
    spec = context.job.spec
    train = load_examples([context.sources.data["seeds"]], spec.data).dataset
    return synthesize(
        train,
        build_contract(spec.data, train["target"], context.tokenizer),
        spec.synthesis,
        data=spec.data,
        teacher=teacher,
        held_out={},
        seed=0,
        journal_dir=journal,
        monitor=monitor,
    )


def score(model: LanguageModel | ModelPool) -> np.ndarray:
    prompts, labels = (
        [model.tokenizer.encode(text, add_special_tokens=False) for text in texts]
        for texts in (TEXTS, LABELS)
    )
    return model.score(prompts, labels, batch_size=4)


def describe(result: SynthesisResult) -> list[object]:
    """All that the workers had a part in: rows in their order, rejections, scores, counts."""
    return [result.kept.to_list(), result.rejected, result.scores, result.report, result.usage]


@pytest.fixture(scope="module")
def expected(folder: Path) -> tuple[list[object], np.ndarray]:
    """Rows and scores of one process; with one worker the teacher needs no Ray."""
    context = build_context(folder, 1)
    with open_teacher(context, NullMonitor()) as teacher:
        assert isinstance(teacher.language_model, LanguageModel)
        result = draw(context, teacher, folder / "in-process")
        assert result.report["draws"] > 64  # several batches for each of three workers
        return describe(result), score(teacher.language_model)


@contextmanager
def open_pool_teacher(context: InputContext, num_workers: int) -> Iterator[Teacher]:
    with open_model_pool(context, num_workers, pytest.fail) as pool:
        yield SelfTeacher(pool, context.sources.digests["model"], concurrency=2 * num_workers)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_rows_and_scores_are_those_of_one_process(
    expected: tuple[list[object], np.ndarray], folder: Path, tmp_path: Path, num_workers: int
) -> None:
    """The number of workers is a matter of speed: were the rows to depend on it, a job that is
    started again on another cluster would be another experiment."""
    context = build_context(folder, num_workers)
    with open_pool_teacher(context, num_workers) as teacher:
        assert describe(draw(context, teacher, tmp_path)) == expected[0]
        assert np.array_equal(score(teacher.language_model), expected[1])


class Killer(NullMonitor):
    """Kills one process, as the kernel would, when the first answers are there."""

    def __init__(self) -> None:
        self.victim = 0
        self.losses: list[object] = []

    def count(self, metric: str, /, n: float = 1, **labels: str) -> None:
        if metric == "teacher_requests" and self.victim:
            os.kill(self.victim, signal.SIGKILL)
            self.victim = 0

    def log(self, event: str, /, **fields: object) -> None:
        if event == "worker_lost":
            self.losses.append(fields["message"])


def find_processes(pool: ModelPool) -> list[int]:
    """Process ids of the actors that have come."""
    return [
        ray.get(replica._actor.__ray_call__.remote(lambda actor: os.getpid()))
        for replica in pool._replicas
        if replica._is_loaded
    ]


def test_a_killed_worker_loses_no_answer(
    expected: tuple[list[object], np.ndarray], folder: Path, tmp_path: Path
) -> None:
    """Its batch goes to another worker, as it was: the rows are the same, and the journal holds
    each question once and each answer once. The loss is told."""
    context, killer = build_context(folder, 2), Killer()
    with open_teacher(context, killer) as teacher:
        pool = teacher.language_model
        assert isinstance(pool, ModelPool)
        score(pool)
        both = wait_until(lambda: len(pids := find_processes(pool)) == 2 and pids, "two actors")
        killer.victim = both[0]
        assert describe(draw(context, teacher, tmp_path, killer)) == expected[0]
    assert not killer.victim
    assert len(killer.losses) == 1
    (file,) = tmp_path.glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for kind in ("ask", "answer"):
        times = Counter(line[kind] for line in lines if kind in line)
        assert set(times.values()) == {1}
        assert len(times) == expected[0][3]["draws"]
