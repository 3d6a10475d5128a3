"""Rows and scores by vLLM itself, built for CPUs. Run by `make test-vllm`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tools.tiny_job import write_job
from tests.tools.tiny_models import build_tiny_model
from transformers import AutoConfig, AutoModelForCausalLM

from loam_runtime.manifest import load_manifest
from loam_runtime.models.language_model import LanguageModel
from loam_runtime.models.loading import load_base, load_tokenizer
from loam_runtime.models.vllm_choice import VARIABLE, choose_engine
from loam_runtime.models.vllm_model import VllmModel, open_vllm
from loam_runtime.models.vllm_process import VllmProcess
from loam_runtime.observability.monitor import NullMonitor
from loam_runtime.sources import fetch_sources
from loam_runtime.steps.context import InputContext
from loam_runtime.steps.synthesize import open_teacher

# A process of vLLM imports for half a minute.
pytestmark = pytest.mark.timeout(900)

LABELS = [" praise\n", " complaint\n", " complaints\n", " no label at all\n"]
# Over one block of vLLM's cache (128 tokens on a CPU), so that a part of it is shared.
HEAD = "Text: where is my parcel?\nLabel: complaint\n\n" * 12
TEXTS = ["the film is good", "late", "a jacket that is broken " * 4, "no", "thanks"]
LIMITS = {"max_new_tokens": 24, "stop_at_newline": True}
DRAWS = {**LIMITS, "temperature": 1.0, "top_k": 50, "top_p": 0.95}


@pytest.fixture(scope="module", params=["gemma3", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with heads of 32: the fewest that vLLM takes on a CPU."""
    folder = build_tiny_model(tmp_path_factory.mktemp("model"), kind=request.param)
    config = AutoConfig.from_pretrained(folder)
    config.update({"head_dim": 32, "max_position_embeddings": 1024})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def lm(folder: Path) -> LanguageModel:
    model = load_base(folder, device="cpu", dtype=torch.float32)
    return LanguageModel(model, load_tokenizer(folder))


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[VllmModel]:
    process = VllmProcess(os.environ[VARIABLE], num_threads=1)
    yield open_vllm(process, folder, "cpu", "fp32")
    process.stop()


@pytest.fixture(scope="module")
def prompts(lm: LanguageModel) -> list[list[int]]:
    return [lm.tokenizer.encode(f"{HEAD}Text: {text}\nLabel:") for text in TEXTS]


def test_it_is_chosen_for_what_it_can_run(folder: Path) -> None:
    """An installed vLLM that is never taken would be found out by its bill alone."""
    engine = choose_engine(folder, "cpu")
    assert engine.name == "vllm", engine.reason
    assert choose_engine(folder, "cuda").name == "transformers"


def test_scores_are_those_of_transformers(lm, model: VllmModel, prompts) -> None:
    """The label filter's verdicts are the model's, not the engine's."""
    labels = [lm.tokenizer.encode(label, add_special_tokens=False) for label in LABELS]
    expected = lm.score(prompts, labels)
    np.testing.assert_allclose(model.score(prompts, labels), expected, atol=1e-3)


def test_greedy_texts_are_those_of_transformers(lm, model: VllmModel, prompts) -> None:
    """The same ends, too: of a text, of a line, and of what may be drawn."""
    for limits in (LIMITS, {"max_new_tokens": 24}):
        made = model.generate(prompts, **limits)
        assert made == lm.generate(prompts, **limits)
    ended = model.generate(prompts, max_new_tokens=400)
    assert {one.finished for one in ended} >= {True} or all(one.num_tokens == 400 for one in ended)


def test_a_draw_is_known_by_its_seed(model: VllmModel, prompts) -> None:
    """Whatever was asked before, and in whatever order: a run that is started again goes on."""
    first = model.generate(prompts, seed=[11, 12, 13, 14, 15], **DRAWS)
    model.generate(prompts[:2], seed=[1, 2], **DRAWS)
    assert model.generate(prompts[::-1], seed=[15, 14, 13, 12, 11], **DRAWS) == first[::-1]
    assert model.generate(prompts, seed=[1, 2, 3, 4, 5], **DRAWS) != first


def test_draws_of_one_prompt_differ(model: VllmModel, prompts) -> None:
    made = model.generate([prompts[0]] * 8, seed=list(range(8)), **DRAWS)
    assert len({one.text for one in made}) > 4


@pytest.mark.parametrize("folder", ["gemma3"], indirect=True)
def test_rows_are_the_same_on_two_workers(folder: Path, prompts, tmp_path: Path) -> None:
    """The teacher of a job, in this process and on Ray workers; the process ends with it."""

    def draw(num_workers: int) -> tuple[str, list[object], np.ndarray]:
        manifest = write_job(
            tmp_path / str(num_workers),
            model={"uri": f"file://{folder}"},
            synthesis={"strategy": "inContext", "targetCount": 1, "teacher": {"kind": "self"}},
            training={"precision": "fp32"},
            compute={"workers": {"min": 1, "max": num_workers}},
        )
        job = load_manifest(manifest)
        context = InputContext(job, manifest.parent, fetch_sources(job.spec, manifest.parent))
        with open_teacher(context, NullMonitor()) as teacher:
            assert teacher.language_model is not None
            rows = [
                teacher.language_model.generate(prompts, seed=list(range(at, at + 5)), **DRAWS)
                for at in range(0, 20, 5)
            ]
            scores = teacher.language_model.score(prompts, [[7, 1], [7, 9, 1]], batch_size=2)
            return teacher.endpoint, rows, scores

    endpoint, rows, scores = draw(1)
    assert endpoint == "self, vllm"
    again = draw(2)
    assert again[1] == rows
    assert np.array_equal(again[2], scores)
