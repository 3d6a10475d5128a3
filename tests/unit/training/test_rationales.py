"""Distilling step by step: answers and rationales, each with a loss of its own count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.tools.training_tools import fit, make_config, make_rows

from loam_api.finetunejob import FineTuneJob
from loam_runtime.data.examples import Example, to_dataset
from loam_runtime.data.prompt import RATIONALE_PREFIX, build_contract
from loam_runtime.data.template import EncodedExample, encode_prompt
from loam_runtime.models.loading import load_base
from loam_runtime.sources import Sources
from loam_runtime.steps.context import InputContext
from loam_runtime.steps.rows import encode_rows
from loam_runtime.synthesis.columns import describe_data
from loam_runtime.training.collate import collate
from loam_runtime.training.objective import SupervisedObjective
from loam_runtime.training.rows import group_examples, read_encoded, write_encoded

ANSWERS = make_rows(12)
RATIONALES = [replace(row, is_rationale=True) for row in make_rows(12, seed=5, longest=60)]
# Every third example has no rationale: seeds seldom have one.
BOTH = [
    row
    for number, pair in enumerate(zip(ANSWERS, RATIONALES, strict=True))
    for row in (pair if number % 3 else pair[:1])
]


def measure_loss(folder: Path, rows: list[EncodedExample]) -> float:
    """Mean loss of the untrained model over the rows' supervised tokens."""
    batch = collate(rows)
    base = load_base(folder, device="cpu", dtype=torch.float32)
    with torch.no_grad():
        return SupervisedObjective(base)(batch).item() / len(batch.targets)


@pytest.mark.parametrize("weight", [1.0, 0.3])
@pytest.mark.parametrize("micro_batch", [1, 5, 24])
def test_loss_is_the_sum_of_its_parts(gemma_folder, tmp_path, weight, micro_batch):
    """L = L_answer + lambda L_rationale, each a mean over its own tokens: with one common count
    the rationales, many times as long, would drown the answers."""
    config = make_config(
        global_batch=12, max_steps=1, micro_batch=micro_batch, rationale_weight=weight
    )
    loss = fit(config, gemma_folder, tmp_path, BOTH).losses[0]
    taught = [row for row in BOTH if row.is_rationale]
    expected = measure_loss(gemma_folder, ANSWERS) + weight * measure_loss(gemma_folder, taught)
    assert loss == pytest.approx(expected, abs=1e-4)


def test_answers_alone_are_the_plain_run(gemma_folder, tmp_path):
    """The switch for the ablation changes nothing else: without rationales every loss is equal,
    bit for bit, whatever their weight."""
    plain = fit(make_config(dropout=0.1), gemma_folder, tmp_path / "plain", ANSWERS)
    config = make_config(dropout=0.1, rationale_weight=7.0)
    assert fit(config, gemma_folder, tmp_path / "switched", ANSWERS).losses == plain.losses


def test_batches_count_examples(gemma_folder, tmp_path):
    """Twelve examples in batches of four are three steps an epoch, with rationales or without:
    otherwise the arms of the ablation would differ in their steps."""
    config = make_config(global_batch=4, max_steps=0, epochs=1)
    for name, rows in (("both", BOTH), ("answers", ANSWERS)):
        assert len(fit(config, gemma_folder, tmp_path / name, rows).losses) == 3


def test_rationales_stay_with_their_answers(tmp_path):
    """On disk as in memory: an example is its answer and the rationale behind it."""
    write_encoded(BOTH, tmp_path / "rows.arrow")
    stored = read_encoded(tmp_path / "rows.arrow")
    assert list(stored) == BOTH
    assert group_examples(stored) == group_examples(BOTH)
    assert [len(example) for example in group_examples(BOTH)] == [1, 2, 2] * 4


def make_context(folder: Path, base: Path, **training) -> InputContext:
    spec = {
        "model": {"uri": f"file://{base}"},
        "data": {"task": "classification", "seeds": {"uri": "file://seeds.jsonl"}},
        "training": training,
        "output": {"uri": "file://out"},
    }
    job = FineTuneJob(
        apiVersion="loam.dev/v1alpha1", kind="FineTuneJob", metadata={"name": "a"}, spec=spec
    )
    return InputContext(job, folder, Sources(base, {}, {}))


def test_answer_prompts_know_of_no_rationale(gemma_folder, tmp_path):
    """Evaluation asks with the answer's prompt alone, so training must use that very prompt; the
    rationale's differs from it by a prefix."""
    context = make_context(tmp_path, gemma_folder, rationale="multiTask")
    contract = build_contract(describe_data("classification"), ["x", "y"], context.tokenizer)
    table = to_dataset(
        [Example("1", "a text", "x", rationale="for so it is"), Example("2", "b", "y")]
    )
    rows = list(encode_rows(context, contract, table, 0, explains=True))
    assert [(row.id, row.is_rationale) for row in rows] == [("1", False), ("1", True), ("2", False)]
    prompt = encode_prompt(contract, context.tokenizer, "a text")
    assert list(rows[0].input_ids[: rows[0].num_prompt_tokens]) == prompt
    asked, told = (
        context.tokenizer.decode(ids, skip_special_tokens=True)
        for ids in (
            rows[1].input_ids[: rows[1].num_prompt_tokens],
            rows[1].input_ids[rows[1].num_prompt_tokens :],
        )
    )
    assert asked.startswith(RATIONALE_PREFIX)
    assert told.strip() == "for so it is"
    plain = list(encode_rows(context, contract, table, 0, explains=False))
    assert plain == [rows[0], rows[2]]


def test_one_switch(gemma_folder, tmp_path):
    """The ablation is one field: auto follows the strategy, and either word overrules it."""
    wanted = {"auto": False, "multiTask": True, "none": False}
    for word, expected in wanted.items():
        context = make_context(tmp_path, gemma_folder, rationale=word)
        assert context.job.spec.learns_rationales is expected
    spec = context.job.spec
    for word, expected in {"auto": True, "none": False}.items():
        changed = spec.model_copy(
            update={
                "synthesis": type(spec)
                .model_fields["synthesis"]
                .annotation.__args__[0](targetCount=1, strategy="rationale"),
                "training": spec.training.model_copy(update={"rationale": word}),
            }
        )
        assert changed.learns_rationales is changed.explains_seeds is expected
