"""The study of benchmarks/does_it_help.py: its draws, its figures, and how it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.study.arms import (
    FILTERS,
    PROBE,
    TIERS,
    UNTRAINED,
    duplicate_seeds,
    keep_through,
    order_cells,
    play_teacher,
)
from benchmarks.study.paired import compare_arms
from benchmarks.study.results import Cell, Results
from benchmarks.study.run import Study, run_cells
from benchmarks.study.tables import compare, read_hits
from benchmarks.study.tasks import SEEDS_PER_CLASS, Draw, draw_repeat
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tools.cases import count_cases
from tests.unit.benchmarks.conftest import WriteTask

from loam_runtime.data.examples import Example

LABELS = ("HUM", "LOC", "NUM")


@pytest.fixture
def draw(write_task: WriteTask) -> Draw:
    """A repeat of a small task: 40 training and 30 test rows of each label."""
    return write_task(
        "trec6", LABELS, lambda side, label, number: f"{side} {label} {number} ?", train=40, test=30
    )


def test_a_repeat_draws_all_anew_and_nothing_twice(draw: Draw) -> None:
    """Seeds, held-back rows and test rows share no row, and the next repeat has others: a teacher
    that is played with the seeds or the test would look better than any."""
    seeds, held_back, test = (
        {row.input for row in side} for side in (draw.seeds, draw.held_back, draw.test)
    )
    assert len(seeds) == SEEDS_PER_CLASS * len(LABELS)
    assert not seeds & held_back
    assert all(text.startswith("test") for text in test)
    again, other = (draw_repeat(draw.task, repeat) for repeat in (0, 1))
    assert again == draw
    assert {row.id for row in other.seeds} != {row.id for row in draw.seeds}
    assert [row.id for row in other.test] != [row.id for row in draw.test]
    assert other.seed != draw.seed


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.4])
def test_a_played_teacher_is_wrong_exactly_so_often(draw: Draw, noise: float) -> None:
    """The share of wrong labels is the stated one, labels stay balanced and no text comes twice:
    else the curve of value against teacher quality shows chance, imbalance or repetition."""
    rows = play_teacher(draw, noise, per_class=10)
    assert len({row.input for row in rows}) == len(rows) == 10 * len(LABELS)
    assert all(sum(row.target == label for row in rows) == 10 for label in LABELS)
    wrong = [row for row in rows if row.target not in row.input]
    assert len(wrong) == round(noise * len(rows))
    cleaner = play_teacher(draw, noise / 2, per_class=10)
    wrong_before = {place for place, row in enumerate(cleaner) if row.target not in row.input}
    assert wrong_before <= {place for place, row in enumerate(rows) if row in wrong}


def test_duplicated_rows_are_as_many_as_augmented_ones(draw: Draw) -> None:
    """The control has the size of the arm that it controls, and only real texts."""
    rows = duplicate_seeds(draw, per_class=10)
    assert len(rows) == len({row.id for row in rows}) == (SEEDS_PER_CLASS + 10) * len(LABELS)
    assert {row.input for row in rows} == {row.input for row in draw.seeds}


def test_filters_are_added_in_turn(draw: Draw) -> None:
    """Each arm drops what its filter and those before it drop, and nothing of those after it."""
    rows = draw.held_back[: len(FILTERS)]
    dropped_by = dict(zip((row.id for row in rows), FILTERS, strict=True))
    for place, name in enumerate(FILTERS):
        assert keep_through(rows, dropped_by, name) == list(rows[place + 1 :])


def test_early_cells_make_whole_tables() -> None:
    """Every cell comes once, and the first arms of a repeat are there for all data sets before
    those of the next: a run that ends early would else compare arms that few repeats have."""
    cells = list(order_cells(["sst2", "trec6"], 5))
    trained = [cell for cell in cells if not cell.arm.startswith(PROBE)]
    arms = [*UNTRAINED[:1], *(arm for tier in TIERS for arm in tier)]
    assert len(cells) == len(set(cells))
    assert len(trained) == 2 * 5 * len(arms)
    early = [cell for cell in trained if cell.arm in TIERS[0]]
    size = 2 * len(TIERS[0])
    for repeat in range(5):
        part = early[repeat * size : (repeat + 1) * size]
        assert {(cell.task, cell.arm) for cell in part} == {
            (task, arm) for task in ("sst2", "trec6") for arm in TIERS[0]
        }
        assert {cell.repeat for cell in part} == {repeat}


@settings(max_examples=count_cases(25), deadline=None)
@given(stops=st.lists(st.integers(0, 7), max_size=4), torn=st.text('ab\u00e9{"', max_size=20))
def test_a_run_goes_on_where_it_was(tmp_path_factory: Any, stops: list[int], torn: str) -> None:
    """However often the run is ended, and wherever in a line, every cell is measured once and all
    are there at the end; a torn last line would else stop the study or be counted."""
    path = tmp_path_factory.mktemp("study") / "out" / "results.jsonl"
    cells = [Cell("sst2", repeat, arm) for repeat in range(4) for arm in ("real", "filtered10")]
    measured: list[Cell] = []
    for most in [*stops, len(cells)]:
        left = [most]

        def measure(cell: Cell, results: Results, left: list[int] = left) -> dict[str, Any]:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            measured.append(cell)
            return results.add(cell, raw="0110", seconds=1.0)

        try:
            run_cells(cells, Results(path), measure)
        except KeyboardInterrupt:
            with path.open("a") as file:
                file.write(torn)
    assert measured == cells
    assert list(Results(path).by_cell) == cells


def test_same_rows_are_not_trained_twice(tmp_path: Path) -> None:
    """Arms whose rows are the same share a result, within one repeat of one data set only."""
    results = Results(tmp_path / "results.jsonl")
    results.add(Cell("sst2", 0, "unfiltered10"), raw="01", rowsDigest="x")
    results.add(Cell("sst2", 0, "inContext"), raw="11")
    assert results.find_same_rows(Cell("sst2", 0, "filtered10"), "x")["arm"] == "unfiltered10"
    for other in (Cell("sst2", 1, "filtered10"), Cell("trec6", 0, "filtered10")):
        assert results.find_same_rows(other, "x") is None
    assert results.find_same_rows(Cell("sst2", 0, "filtered10"), "y") is None


class StubLab:
    """Writes rows as its machine does, and trains nothing."""

    def __init__(self, word: str) -> None:
        self._word = word

    def write_rows(self, draw: Draw, per_class: int, temperature: float, seed: int):
        rows = [
            Example(f"{label}{place}", f"{self._word} {label} {place}", label)
            for label in draw.task.labels
            for place in range(per_class)
        ]
        return rows, {}

    def measure_trained(self, draw: Draw, rows: list[Example]) -> dict[str, Any]:
        return {"raw": "1", "calibrated": "1", "loss": 0.0}


def test_another_machine_mixes_no_rows(draw: Draw, tmp_path: Path) -> None:
    """Finished cells travel with the repository, the rows that they were trained on do not: where
    they would be written differently, arms of one repeat would compare two sets of rows."""
    results = Results(tmp_path / "results.jsonl")

    def measure(lab: StubLab, out: str, arm: str) -> dict[str, Any]:
        study = Study(tmp_path, tmp_path / out, lab, 1)
        return study.measure(Cell("trec6", 0, arm), results)

    first = measure(StubLab("a"), "first", "unfiltered10")
    assert measure(StubLab("a"), "second", "unfiltered5")["numRows"] < first["numRows"]
    with pytest.raises(SystemExit, match="other synthetic rows"):
        measure(StubLab("b"), "third", "unfiltered20")
    measure(StubLab("b"), "third", "teacher0")  # no row of it is written


def test_equal_arms_do_not_differ() -> None:
    """No difference, no interval around it, and nothing decided."""
    found = compare_arms([[np.zeros(50, int)] * 3] * 3)
    assert (found.value, found.low, found.high, found.is_decided) == (0, 0, 0, False)


def test_repeats_that_disagree_leave_more_doubt() -> None:
    """The interval speaks of other draws of seeds: with rows redrawn alone, two repeats that
    contradict each other would decide as firmly as two that agree."""

    def compare_shares(*shares: float) -> float:
        rows = [np.repeat([1, 0], [round(100 * s), 100 - round(100 * s)]) for s in shares]
        found = compare_arms([rows])
        return found.high - found.low

    assert compare_shares(0.0, 0.4) > 2 * compare_shares(0.2, 0.2)


def test_the_interval_covers_the_truth() -> None:
    """Of 60 studies whose true difference is 5 points, about 57 intervals hold it; with 5 repeats
    a bootstrap over repeats is a little too narrow, which redrawing the rows makes up for."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(60):
        truths = np.clip(rng.normal(0.05, 0.05, 5), -0.9, 0.9)
        repeats = [
            rng.choice([-1, 0, 1], 100, p=[0.1 - t / 2, 0.8, 0.1 + t / 2])
            for t in np.clip(truths, -0.19, 0.19)
        ]
        found = compare_arms([repeats])
        hits += found.low <= 0.05 <= found.high
    assert 52 <= hits <= 60


def test_one_repeat_gives_no_interval() -> None:
    """A single draw of seeds says nothing of another."""
    found = compare_arms([[np.array([1, 0, 0, 0])], [np.array([1, 0]), np.array([0, 0])]])
    assert found.low is None
    assert not found.is_decided
    assert found.value == pytest.approx((0.25 + 0.25) / 2)


def test_arms_are_compared_on_the_same_rows(tmp_path: Path) -> None:
    """Only repeats that have both arms count, row by row: means of different repeats would compare
    their seeds and test rows. The base model gets its better calibration; no trained one does."""
    results = Results(tmp_path / "results.jsonl")
    results.add(Cell("sst2", 0, "real"), raw="0011", calibrated="1111")
    results.add(Cell("sst2", 0, "filtered10"), raw="0111", calibrated="0000")
    results.add(Cell("sst2", 1, "real"), raw="0000", calibrated="0000")
    base = results.add(Cell("sst2", 0, "inContext"), raw="0000", calibrated="0100")
    found = compare(results, "filtered10", "real", ["sst2"])
    assert (found.value, found.num_repeats) == (0.25, 1)
    assert compare(results, "filtered10", "real", ["sst2", "trec6"]) is None
    assert read_hits(base).tolist() == [0, 1, 0, 0]
