"""A plan leaves nothing open, gives a reason for each choice, and warns before money is spent."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.api.test_planning import LLAMA_7B

from loam_api.finetunejob import FineTuneJobSpec
from loam_api.planning.facts import DataFacts, Facts, ModelFacts
from loam_api.planning.memory import fits
from loam_api.planning.plan import Plan, plan
from loam_api.planning.profile import build_cpu_profile, build_gpu_profile

GEMMA = ModelFacts(
    model_type="gemma3_text",
    num_parameters=268_098_176,
    hidden_size=640,
    num_layers=18,
    vocab_size=262_144,
    intermediate_size=2048,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=256,
    max_position_embeddings=32_768,
)
DATA = DataFacts(
    num_real_rows=120,
    num_synthetic_rows=0,
    num_validation_rows=30,
    num_test_rows=100,
    min_rows_per_class=20,
    p50_tokens=40,
    max_tokens=90,
    num_tokens=4_800,
    num_supervised_tokens=360,
)
CPU = build_cpu_profile(has_bf16=True)
H100 = build_gpu_profile("NVIDIA H100 80GB HBM3", 80 * 2**30)


def build_spec(**blocks: Any) -> FineTuneJobSpec:
    base = {
        "model": {"uri": "file://m"},
        "data": {"seeds": {"uri": "file://s"}, "task": "classification"},
        "output": {"uri": "file://o"},
    }
    return FineTuneJobSpec.model_validate({**base, **blocks})


def resolve(facts: DataFacts = DATA, profile=CPU, **blocks: Any) -> Plan:
    return plan(Facts(GEMMA, facts), profile, build_spec(**blocks))


def get_reason(resolved: Plan, field: str) -> str:
    (reason,) = [reason.why for reason in resolved.reasons if reason.field == field]
    return reason


def test_small_job_on_a_cpu():
    """The choices for the commonest first job, all at once."""
    resolved = resolve()
    assert (resolved.method, resolved.rank, resolved.alpha) == ("qlora", 16, 64)
    assert resolved.target_modules == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert (resolved.learning_rate, resolved.dropout) == (2e-4, 0.1)
    assert (resolved.steps_per_epoch, resolved.num_steps) == (8, 100)
    assert (resolved.micro_batch, resolved.max_sequence_length) == (8, 128)
    assert (resolved.precision, resolved.has_validation) == ("bf16", True)
    assert (resolved.early_stopping_patience, resolved.eval_every_steps) == (2, 8)
    assert "120 real rows" in get_reason(resolved, "training.method")


def test_given_values_are_kept():
    """A plan fills gaps; it never overrules the writer."""
    training = {
        "method": "lora",
        "lora": {"rank": 4, "alpha": 6, "dropout": 0, "targetModules": ["q_proj"]},
        "learningRate": 1.5e-4,
        "epochs": 2,
        "globalBatch": 10,
        "microBatch": 5,
        "maxSequenceLength": 77,
        "precision": "fp32",
        "earlyStopping": {"enabled": False},
    }
    resolved = resolve(training=training)
    assert (resolved.method, resolved.rank, resolved.alpha) == ("lora", 4, 6)
    assert (resolved.learning_rate, resolved.epochs, resolved.num_steps) == (1.5e-4, 2, 24)
    assert (resolved.micro_batch, resolved.max_sequence_length) == (5, 77)
    assert (resolved.precision, resolved.early_stopping_patience) == ("fp32", 0)
    assert get_reason(resolved, "training.lora.rank") == "as the job says"


@pytest.mark.parametrize(
    ("num_rows", "epochs", "num_steps"),
    [
        (4, 100, 100),
        (24, 50, 100),
        (499, 3.12, 100),
        (500, 3, 96),
        (5_000, 2, 626),
        (20_000, 1, 1250),
    ],
)
def test_schedule_by_rows(num_rows, epochs, num_steps):
    """Tiny data gets a minimum of steps; large data one to three passes."""
    resolved = resolve(replace(DATA, num_real_rows=num_rows))
    assert (resolved.epochs, resolved.num_steps) == (epochs, num_steps)


def test_steps_are_not_fewer_just_below_500_rows():
    """A row more must not mean much less training."""
    steps = [resolve(replace(DATA, num_real_rows=rows)).num_steps for rows in (480, 499, 500, 520)]
    assert max(steps) - min(steps) <= 5


def test_before_synthesis_the_expected_rows_count():
    """`loam plan` speaks of the job as it will be: seeds and targetCount."""
    data = replace(DATA, num_synthetic_rows=None)
    resolved = resolve(data, synthesis={"targetCount": 1_000})
    assert resolved.num_synthetic_rows == 1_000
    assert resolved.method == "qlora"  # by real rows: synthetic ones do not count
    assert resolved.epochs == 3
    assert resolved.max_sequence_length == 384  # 90 tokens and 256 more of an answer
    assert resolved.teacher.max_requests > 1_000


def test_after_synthesis_the_kept_rows_count():
    """A synthesis that kept fewer rows than asked for must not inflate the schedule."""
    resolved = resolve(replace(DATA, num_synthetic_rows=10), synthesis={"targetCount": 1_000})
    assert resolved.num_synthetic_rows == 10
    assert resolved.steps_per_epoch == 9


def test_nothing_known_still_gives_a_plan():
    """A model or data that cannot be read yet leaves estimates out, not the plan."""
    resolved = plan(Facts(), CPU, build_spec())
    assert (resolved.memory, resolved.time, resolved.teacher) == (None, None, None)
    assert resolved.num_steps == 0
    assert any("not known" in warning for warning in resolved.warnings)


def test_full_fine_tuning_where_it_fits():
    """10,000 rows on a large GPU: full; the same on a small machine: LoRA."""
    data = replace(DATA, num_real_rows=10_000, num_tokens=400_000, num_supervised_tokens=30_000)
    full = resolve(data, H100)
    assert (full.method, full.rank, full.alpha, full.target_modules) == ("full", 0, 0, ())
    assert full.learning_rate == 2e-5
    small = resolve(data, build_cpu_profile(memory_bytes=4 * 2**30))
    assert (small.method, small.rank) == ("lora", 32)


def test_small_gpu_gets_qlora():
    """Under 40 GB the matrix says QLoRA whatever the rows."""
    gpu = build_gpu_profile("NVIDIA L4", 24 * 10**9)
    assert resolve(replace(DATA, num_real_rows=3_000), gpu).method == "qlora"


@pytest.mark.parametrize(
    ("changes", "blocks", "expected"),
    [
        ({"num_validation_rows": 0}, {}, False),
        ({"num_validation_rows": None, "min_rows_per_class": 9}, {}, False),
        ({"num_validation_rows": None, "min_rows_per_class": 10}, {}, True),
        ({"num_validation_rows": None, "min_rows_per_class": 0}, {}, True),
        ({"num_validation_rows": None}, {"mode": "none"}, False),
        ({"num_validation_rows": None}, {"mode": "fraction"}, True),
    ],
)
def test_validation_set(changes, blocks, expected):
    """Without a validation set there is no early stopping, and the plan says so."""
    data = {"seeds": {"uri": "file://s"}, "task": "classification", "validation": blocks}
    resolved = resolve(replace(DATA, **changes), data=data)
    assert resolved.has_validation is expected
    assert (resolved.early_stopping_patience > 0) is expected
    assert (resolved.eval_every_steps > 0) is expected


def test_length_is_capped_by_the_model():
    """A row of 100,000 words must not ask for a context the model does not have."""
    resolved = resolve(replace(DATA, max_tokens=140_000))
    assert resolved.max_sequence_length == 32_768
    assert any("the job fails" in warning for warning in resolved.warnings)


def test_micro_batch_shrinks_to_the_memory():
    """A batch that does not fit would be found out only after the model is loaded."""
    tight = build_cpu_profile(memory_bytes=3 * 2**30, has_bf16=True)
    long_rows = replace(DATA, max_tokens=1_000)
    resolved = resolve(long_rows, tight)
    assert resolved.micro_batch in (1, 2, 4)
    assert "fits in" in get_reason(resolved, "training.microBatch")


def test_workers_share_a_cpu_machine():
    """Two processes on one machine have half the memory each."""
    compute = {"workers": {"min": 4, "max": 4}}
    resolved = resolve(compute=compute)
    assert resolved.num_workers == 4
    assert resolved.micro_batch == 4  # of a global batch of 16


@pytest.mark.parametrize(
    ("changes", "blocks", "word"),
    [
        ({"num_real_rows": 50}, {}, "prompting alone"),
        ({"num_real_rows": 200}, {}, "add a synthesis block"),
        ({"num_test_rows": 49}, {}, "not assessable"),
        ({"num_preference_rows": 9}, {}, "9 rows have a refused answer"),
        ({}, {"training": {"learningRate": 0.1}}, "usual range"),
        ({"num_real_rows": 800}, {"training": {"epochs": 9}}, "overfit"),
        ({}, {"training": {"full": {"sharding": "fullShard"}}}, "sharding is not used"),
        ({}, {"training": {"maxSequenceLength": 64}}, "over maxSequenceLength"),
        ({}, {"training": {"maxSequenceLength": 100_000}}, "that the model reads"),
        ({}, {"compute": {"device": "cuda"}}, "no GPU was found"),
    ],
)
def test_warnings(changes, blocks, word):
    """What would surprise a reader after an hour is said before the first minute."""
    resolved = resolve(replace(DATA, **changes), **blocks)
    assert any(word in warning for warning in resolved.warnings), resolved.warnings


def test_warns_of_hardware():
    """Too little memory, too few GPUs, arithmetic that is not there."""
    tiny = build_cpu_profile(memory_bytes=10**9)
    assert any("GB a worker" in warning for warning in resolve(profile=tiny).warnings)
    two = resolve(profile=H100, compute={"workers": {"min": 2, "max": 2}})
    assert any("there are 1" in warning for warning in two.warnings)
    forced = resolve(profile=build_cpu_profile(), training={"precision": "bf16"})
    assert any("it will be slow" in warning for warning in forced.warnings)


OWN = {"kind": "self"}
REMOTE = {"kind": "openai", "openai": {"baseURL": "http://teacher/v1", "model": "large"}}


@pytest.mark.parametrize(
    ("teacher", "memory_gib", "is_told"), [(OWN, 12, True), (OWN, 24, False), (REMOTE, 12, False)]
)
def test_warns_where_the_base_model_cannot_write(teacher, memory_gib, is_told):
    """A model that fits in 4 bits is trained on a GPU that its 16-bit weights, with which it
    writes rows, are too large for: that should not be found out on the GPU."""
    gpu = build_gpu_profile("some GPU", memory_gib * 2**30)
    synthesis = {"strategy": "inContext", "targetCount": 500, "teacher": teacher}
    spec = build_spec(synthesis=synthesis, training={"method": "qlora"})
    resolved = plan(Facts(LLAMA_7B, DATA), gpu, spec)
    assert fits(resolved.memory, gpu.memory_bytes)
    assert any("base model writes rows" in warning for warning in resolved.warnings) == is_told


def test_well_equipped_job_has_no_warning():
    """A warning that is always there is read by no one."""
    data = replace(DATA, num_real_rows=2_000, num_tokens=80_000, num_supervised_tokens=6_000)
    assert resolve(data, H100).warnings == ()


@given(
    num_rows=st.integers(0, 50_000),
    synthetic=st.none() | st.integers(0, 5_000),
    max_tokens=st.integers(0, 100_000),
    global_batch=st.integers(1, 512),
    workers=st.integers(1, 16),
    memory_gib=st.integers(1, 200),
    on_gpu=st.booleans(),
)
def test_every_plan_is_whole(
    num_rows, synthetic, max_tokens, global_batch, workers, memory_gib, on_gpu
):
    """Whatever is known, every choice is made, positive, consistent and JSON-able."""
    memory = memory_gib * 2**30
    profile = build_gpu_profile("H100", memory) if on_gpu else build_cpu_profile(memory)
    data = DataFacts(
        num_real_rows=num_rows,
        num_synthetic_rows=synthetic,
        p50_tokens=max_tokens // 2,
        max_tokens=max_tokens,
    )
    resolved = resolve(
        data,
        profile,
        training={"globalBatch": global_batch},
        compute={"workers": {"min": workers, "max": workers}},
        synthesis={"targetCount": 10},
    )
    assert 1 <= resolved.micro_batch <= global_batch
    assert resolved.max_sequence_length >= 1
    assert 0 < resolved.learning_rate < 1e-3
    assert (resolved.rank == 0) is (resolved.method == "full")
    assert resolved.alpha == 4 * resolved.rank
    rows = num_rows + resolved.num_synthetic_rows
    assert (resolved.num_steps > 0) is (rows > 0)
    assert all(reason.why for reason in resolved.reasons)
    document = json.loads(json.dumps(resolved.to_dict()))
    assert document["method"] == resolved.method
    if resolved.memory:
        assert document["memory"]["total"] == resolved.memory.total
