"""Memory of a worker pod: enough for what the plan lets it do, and not a node's worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.api.test_plan import DATA, GEMMA, build_spec

from loam_api.planning.facts import Facts, ModelFacts
from loam_api.planning.plan import plan
from loam_api.planning.profile import GIB
from loam_api.planning.worker_memory import POD_OVERHEAD_BYTES, estimate_worker_memory
from loam_runtime import hardware


def estimate(model: ModelFacts = GEMMA, **compute: object) -> int:
    spec = build_spec(compute=compute, training={"method": "lora"})
    return estimate_worker_memory(Facts(model, DATA), spec)


def test_the_plan_fits_into_what_it_asked_for(monkeypatch: pytest.MonkeyPatch):
    """The pod plans again with the memory that it has got: if that left it less than a pod of the
    size it asked for, its first step would be its last."""
    for num_workers in (1, 4):
        workers = {"min": num_workers, "max": num_workers}
        asked = estimate(workers=workers)
        monkeypatch.setattr(hardware, "read_memory_bytes", lambda asked=asked: asked)
        spec = build_spec(compute={"workers": workers}, training={"method": "lora"})
        resolved = plan(Facts(GEMMA, DATA), hardware.detect_hardware("cpu", num_workers), spec)
        assert resolved.memory.total + POD_OVERHEAD_BYTES <= asked
        assert not any("memory" in warning for warning in resolved.warnings)


def test_workers_do_not_share_their_memory():
    """On one machine they do; in a cluster each has a pod of its own."""
    assert estimate(workers={"min": 4, "max": 4}) == estimate(workers={"min": 1, "max": 1})


def test_a_larger_model_needs_more():
    large = replace(GEMMA, num_parameters=10 * GEMMA.num_parameters, num_layers=180)
    assert estimate(large) > estimate() + 8 * GIB


def test_an_unknown_model_is_not_guessed():
    """The operator then takes its default."""
    assert estimate(ModelFacts()) == 0


def test_weights_pass_through_the_hosts_memory():
    large = replace(GEMMA, weight_bytes=16 * GIB)
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
