"""The study's apparatus on a tiny model: what its figures rest on."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.study.arms import FILTERS
from benchmarks.study.lab import Lab, Recipe
from benchmarks.study.tasks import Draw
from tests.tools.tiny_models import build_tiny_model
from tests.unit.benchmarks.conftest import WriteTask

ENDS = {"negative": "dull", "positive": "lovely"}


@pytest.fixture
def draw(write_task: WriteTask) -> Draw:
    """A repeat of a task that a few steps can learn."""
    return write_task(
        "sst2",
        tuple(ENDS),
        lambda side, label, number: f"{side} film {number} is {ENDS[label]}",
        train=8,
        test=6,
    )


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    recipe = Recipe(num_steps=2, global_batch=4, learning_rate=1e-2)
    return Lab(build_tiny_model(tmp_path / "model"), tmp_path / "scratch", recipe)


def test_an_arm_leaves_no_trace_in_the_next(lab: Lab, draw: Draw) -> None:
    """The same rows give the same figures, and a trained adapter is gone afterwards: arms with
    equal rows share one result, and all are measured on one loaded model."""
    before = lab.measure_base(draw, draw.seeds)
    trained = lab.measure_trained(draw, draw.seeds)
    assert lab.measure_base(draw, draw.seeds) == before
    assert lab.measure_trained(draw, draw.seeds) == trained
    assert len(trained["raw"]) == len(trained["calibrated"]) == len(draw.test)
    assert trained["loss"] != lab.measure_trained(draw, draw.held_back)["loss"]


def test_the_filters_are_those_of_a_job(lab: Lab, draw: Draw) -> None:
    """The study names the filters in the order in which a job applies them: one added, renamed or
    moved would else be missing from the arms that add them in turn."""
    copy, fresh = draw.seeds[0], draw.held_back[0]
    funnel = lab.filter_rows(draw, [copy, fresh])
    assert tuple(name for name in funnel.report if name != "quality") == FILTERS
    assert funnel.report["quality"]["advisory"]
    assert funnel.dropped_by[copy.id] == "exactDuplicates"
    assert set(lab.force_consistency(draw, [fresh])) <= {fresh}


def test_rows_are_written_once_and_alike(lab: Lab, draw: Draw) -> None:
    """A repeat's rows follow from its seed: a run that is resumed trains on what it had written."""
    first, report = lab.write_rows(draw, 2, 1.0, seed=1)
    again, _ = lab.write_rows(draw, 2, 1.0, seed=1)
    assert [row.input for row in first] == [row.input for row in again]
    assert {row.target for row in first} <= set(ENDS)
    assert report["draws"] >= len(first)
