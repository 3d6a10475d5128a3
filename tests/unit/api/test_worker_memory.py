"""Memory of a worker pod: enough for what the plan lets it do, and not a node's worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.api.test_plan import DATA, GEMMA, build_spec

from loam_api.planning.facts import Facts, ModelFacts
from loam_api.planning.plan import plan
from loam_api.planning.profile import GIB, build_cpu_profile
from loam_api.planning.worker_memory import POD_OVERHEAD_BYTES, estimate_worker_memory
from loam_runtime import hardware

# So deep a model and so many examples a step that only the memory bounds the micro-batch.
DEEP = replace(GEMMA, num_layers=72)
TRAINING = {"method": "lora", "globalBatch": 1024, "maxSequenceLength": 256}


def estimate(model: ModelFacts = DEEP, **compute: object) -> int:
    spec = build_spec(compute=compute, training=TRAINING)
    return estimate_worker_memory(Facts(model, DATA), spec)


@pytest.mark.parametrize("num_pods", [1, 4])
@pytest.mark.parametrize("memory_bytes", [0, 6 * GIB, 8 * GIB])
def test_the_plan_leaves_room_for_what_else_is_in_the_pod(
    num_pods: int, memory_bytes: int, monkeypatch: pytest.MonkeyPatch
):
    """The pod plans with the memory that it has got, whether that was asked for or given: were
    the pipeline beside the training forgotten, the first step would be its last."""
    workers = {"min": num_pods, "max": num_pods}
    has = memory_bytes or estimate(workers=workers)
    monkeypatch.setattr(hardware, "read_memory_bytes", lambda: has)
    spec = build_spec(compute={"workers": workers}, training=TRAINING)
    resolved = plan(Facts(DEEP, DATA), hardware.detect_hardware("cpu", num_pods), spec)
    assert resolved.memory.total + POD_OVERHEAD_BYTES <= has


def test_what_was_asked_for_is_used(monkeypatch: pytest.MonkeyPatch):
    """A margin too small and the pod takes a smaller micro-batch than it was made for."""
    has = estimate()
    monkeypatch.setattr(hardware, "read_memory_bytes", lambda: has)
    spec = build_spec(training=TRAINING)
    facts = Facts(DEEP, DATA)
    wanted = plan(facts, build_cpu_profile(8 * GIB), spec).micro_batch
    assert plan(facts, hardware.detect_hardware("cpu", 1), spec).micro_batch == wanted


def test_workers_do_not_share_their_memory():
    """On one machine they do; in a cluster each has a pod of its own."""
    one, four = (estimate(workers={"min": count, "max": count}) for count in (1, 4))
    assert 0.9 < four / one < 1.1


def test_a_larger_model_needs_more():
    large = replace(GEMMA, num_parameters=10 * GEMMA.num_parameters, num_layers=180)
    assert estimate(large) > estimate() + 8 * GIB


def test_an_unknown_model_is_not_guessed():
    """The operator then takes its default."""
    assert estimate(ModelFacts()) == 0


def test_weights_pass_through_the_hosts_memory():
    large = replace(DEEP, weight_bytes=16 * GIB)
    assert estimate(large, worker={"gpus": 1}) > 16 * GIB


def test_a_containers_limit_is_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Who plans with the node's memory is killed by the kernel at the container's."""
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(hardware, "_LIMIT_FILES", (limit, tmp_path / "nowhere"))
    total = hardware.read_memory_bytes()
    assert total > GIB
    limit.write_text("max\n")
    assert hardware.read_memory_bytes() == total
    limit.write_text(f"{512 * 2**20}\n")
    assert hardware.read_memory_bytes() == 512 * 2**20


def test_a_base_model_that_writes_rows_is_not_in_4_bits():
    """A pod made for the quantized training alone would be killed before it."""
    synthesis = {"strategy": "inContext", "targetCount": 9, "teacher": {"kind": "self"}}
    large = replace(GEMMA, num_parameters=10 * GEMMA.num_parameters)
    sizes = [
        estimate_worker_memory(
            Facts(large, DATA), build_spec(training={"method": "qlora"}, synthesis=block)
        )
        for block in (None, synthesis)
    ]
    assert sizes[1] > sizes[0]
    assert sizes[1] > 2 * large.num_parameters + POD_OVERHEAD_BYTES
