"""The base model as its own teacher, with a tiny model of random weights."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from tests.tools.tiny_models import build_tiny_model

from loam_api.finetunejob import DataSource, DataSpec, Sampling, Synthesis
from loam_runtime.data.examples import Example, to_dataset
from loam_runtime.data.prompt import build_contract
from loam_runtime.models.language_model import LanguageModel
from loam_runtime.models.loading import load_base, load_tokenizer
from loam_runtime.synthesis.budget import BudgetLedger
from loam_runtime.synthesis.client import TeacherClient
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.journal import Journal
from loam_runtime.synthesis.stage import synthesize
from loam_runtime.synthesis.teachers import SelfTeacher


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = build_tiny_model(tmp_path_factory.mktemp("model"), kind="llama")
    model = load_base(folder, device="cpu", dtype=torch.float32)
    return LanguageModel(model, load_tokenizer(folder))


def make_requests(count: int) -> list[TeacherRequest]:
    return [
        TeacherRequest((("user", f"Examples:\n- number {i % 3}\n-"),), max_tokens=6, draw=i)
        for i in range(count)
    ]


def ask(
    model: LanguageModel, folder: Path, count: int, endpoint: str = "self"
) -> list[TeacherAnswer]:
    async def work() -> list[TeacherAnswer]:
        teacher = SelfTeacher(model, "digest", endpoint=endpoint, batch_size=4)
        async with Journal(folder, "run") as journal:
            return await TeacherClient(teacher, journal, BudgetLedger()).ask_many(
                make_requests(count)
            )

    return asyncio.run(work())


def test_draws_of_one_prompt_differ(language_model: LanguageModel, tmp_path: Path) -> None:
    """Each draw is sampled by itself, with its tokens counted."""
    answers = ask(language_model, tmp_path, 9)
    assert len(answers) == 9
    assert len({answer.text for answer in answers[0::3]}) > 1
    assert all(answer.prompt_tokens > 3 for answer in answers)
    assert all(0 < answer.completion_tokens <= 6 for answer in answers)


def test_what_another_engine_wrote_is_not_taken(
    language_model: LanguageModel, tmp_path: Path
) -> None:
    """vLLM draws other rows by the same seed. A job that is tried again where vLLM is missing
    would be half the one experiment and half the other."""
    ask(language_model, tmp_path, 4)
    ask(language_model, tmp_path, 4, endpoint="self, vllm")
    lines = (tmp_path / "run.jsonl").read_bytes().splitlines()
    assert len({line for line in lines if b'"answer"' in line}) == 8


@pytest.mark.parametrize("num_known", [4, 5])
def test_killed_run_goes_on_as_it_would_have(
    language_model: LanguageModel, tmp_path: Path, num_known: int
) -> None:
    """What a restart generates is what the killed start would have generated: answers that the
    journal has, whole batches or part of one, change nothing behind them."""
    whole = ask(language_model, tmp_path / "whole", 10)
    lines = (tmp_path / "whole" / "run.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "killed").mkdir()
    known = [line for line in lines if b'"answer"' in line][:num_known]
    (tmp_path / "killed" / "run.jsonl").write_bytes(b"".join(known))
    assert ask(language_model, tmp_path / "killed", 10) == whole


def test_stage_with_the_base_model_itself(language_model: LanguageModel, tmp_path: Path) -> None:
    """The in-context strategy runs on the base model, from its draws to its label-consistency
    filter, which is measured on every seed and says whether it is trusted."""
    data = DataSpec(seeds=DataSource(uri="file://seeds.jsonl"), task="classification")
    seeds = [
        Example(f"{label}{i}", f"{text} number {i}", label)
        for label, text in (("billing", "invoice"), ("delivery", "parcel"))
        for i in range(6)
    ]
    result = synthesize(
        to_dataset(seeds),
        build_contract(data, ["billing", "delivery"], language_model.tokenizer),
        Synthesis(target_count=4, strategy="inContext", sampling=Sampling(max_tokens=12)),
        data=data,
        teacher=SelfTeacher(language_model, "digest"),
        held_out={"test row 1": "what is held out"},
        seed=0,
        journal_dir=tmp_path,
    )
    filters = result.report["filters"]
    assert list(filters)[-2:] == ["quality", "consistency"]
    assert filters["consistency"]["trusted"] in (True, False)
    assert filters["consistency"]["seeds_measured"] == 12
    assert set(result.kept["target"]) <= {"billing", "delivery"}
