"""Distilling step by step: answers and rationales, each with a loss of its own count."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.tools.training_tools import fit, make_config, make_rows

from loam_api.finetunejob import FineTuneJob
from loam_runtime.data.examples import Example, to_dataset
from loam_runtime.data.prompt import RATIONALE_PREFIX, PromptContract, build_contract
from loam_runtime.data.template import EncodedExample, encode_prompt
from loam_runtime.evaluation.evaluate import evaluate_model
from loam_runtime.models.language_model import LanguageModel
from loam_runtime.models.loading import load_base
from loam_runtime.sources import Sources
from loam_runtime.steps.context import InputContext
from loam_runtime.steps.rows import JobTables, build_training_contract, encode_rows
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
    wanted = {"auto": "none", "multiTask": "multiTask", "prefix": "prefix", "none": "none"}
    for word, expected in wanted.items():
        context = make_context(tmp_path, gemma_folder, rationale=word)
        assert context.job.spec.rationale_form == expected
        assert not context.job.spec.explains_seeds  # nobody is asked
    spec = context.job.spec
    for word, expected in {**wanted, "auto": "multiTask"}.items():
        changed = spec.model_copy(
            update={
                "synthesis": type(spec)
                .model_fields["synthesis"]
                .annotation.__args__[0](targetCount=1, strategy="rationale"),
                "training": spec.training.model_copy(update={"rationale": word}),
            }
        )
        assert changed.rationale_form == expected
        assert changed.explains_seeds is (expected != "none")


def encode_first(folder: Path, base: Path, rows: list[Example]):
    """Contract and tokens of rows whose rationales come first."""
    context = make_context(folder, base, rationale="prefix")
    tables = JobTables(to_dataset(rows), None, None, None)
    contract = build_training_contract(context, tables)
    return contract, list(encode_rows(context, contract, tables.train, 0)), context.tokenizer


def test_rationale_before_its_answer(gemma_folder, tmp_path):
    """The model learns both, in the teacher's tags, as one text; a row without a rationale teaches
    its answer alone: with the tag it would teach to leave the rationale out."""
    rows = [Example("1", "a text", "x", rationale="for so it is"), Example("2", "b", "y")]
    contract, encoded, tokenizer = encode_first(tmp_path, gemma_folder, rows)
    told, given = (
        [
            tokenizer.decode(part, skip_special_tokens=True)
            for part in (
                row.input_ids[: row.num_prompt_tokens],
                row.input_ids[row.num_prompt_tokens :],
            )
        ]
        for row in encoded
    )
    assert told[1].strip() == "<rationale>for so it is</rationale>\n<answer>x</answer>"
    assert given[0].endswith("<answer>")
    assert given[1] == "y</answer>"
    assert [row.input_ids[-1] for row in encoded] == [tokenizer.eos_token_id] * 2
    assert contract.rationale_tokens > 8
    assert PromptContract.from_json(contract.to_json()) == contract


def test_answers_are_found_behind_their_rationales(gemma_folder, tmp_path):
    """Use, evaluation and latency read the answer where training put it, and give it room."""
    rows = [Example("1", "a", "x", rationale="r"), Example("2", "b", "y")]
    contract, _, _ = encode_first(tmp_path, gemma_folder, rows)
    assert contract.parse_answer(" <rationale>not y</rationale>\n<answer>X</answer>") == "x"
    assert contract.parse_answer("<answer> y") == "y"  # cut off behind it
    assert contract.parse_answer("x") == ""
    old = json.loads(contract.to_json())
    del old["rationale_tokens"]  # as an adapter of an earlier release has it
    assert PromptContract.from_json(json.dumps(old)).parse_answer("x") == "x"


def test_model_reasons_then_answers(gemma_folder, tmp_path):
    """From the rows to the verdict: a model that has learned its rows by heart writes rationale
    and answer, and both ways of measuring find the answer."""
    words = ["red", "old", "wet", "far", "big", "new"]
    rows = [
        Example(str(i), f"it is {word}", "xy"[i % 2], rationale=f"{word} means {'xy'[i % 2]}")
        for i, word in enumerate(words)
    ]
    contract, encoded, tokenizer = encode_first(tmp_path, gemma_folder, rows)
    config = make_config(method="full", max_steps=80, global_batch=6, learning_rate=3e-3)
    trained = fit(config, gemma_folder, tmp_path / "run", encoded)
    model = load_base(Path(trained.adapter_dir), device="cpu", dtype=torch.float32)
    lm = LanguageModel(model, tokenizer)
    table = to_dataset(rows)
    measured = evaluate_model(lm, table, contract, name="tuned", max_new_tokens=16, selection=table)
    texts = [one["generatedText"] for one in measured.predictions]
    assert sum("<rationale>" in text and "</answer>" in text for text in texts) == 6, texts
    assert [one["generatedLabel"] for one in measured.predictions] == [row.target for row in rows]
    assert [one["label"] for one in measured.predictions] == [row.target for row in rows]
    assert all(max(one["probabilities"].values()) > 0.7 for one in measured.predictions)
