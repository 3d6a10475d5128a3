"""Measuring the cells of the study, one after another."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.study.arms import (
    FILTERS,
    NOISE,
    PROBE,
    SIZE,
    TEMPERATURES,
    UNTRAINED,
    WRITING,
    Funnel,
    digest_rows,
    duplicate_seeds,
    keep_through,
    play_teacher,
    take_first,
)
from benchmarks.study.data_quality import Judge, describe_rows
from benchmarks.study.probe import measure_probe
from benchmarks.study.results import Cell, Results
from benchmarks.study.tasks import Draw, draw_repeat, load_task

from loam_runtime.data.examples import Example

if TYPE_CHECKING:
    from benchmarks.study.lab import Lab

# Synthesis of the second half of a pool of 20 is a draw of its own, far from any repeat's seed.
SECOND_HALF = 1000


class Study:
    """Knows what each cell needs, and keeps on disk what several cells share.

    Args:
        data: folder with a folder for each data set.
        out: folder for written rows and funnels.
    """

    def __init__(self, data: Path, out: Path, lab: Lab, num_test_rows: int) -> None:
        self._out = out
        self._lab = lab
        self._load = cache(lambda name: load_task(data, name))
        self._judge = cache(lambda name: Judge(self._load(name)))
        self._num_test_rows = num_test_rows

    def measure(self, cell: Cell, results: Results) -> dict[str, Any]:
        """Measure one cell and write it down."""
        started = perf_counter()
        draw = draw_repeat(self._load(cell.task), cell.repeat, self._num_test_rows)
        values = self._measure(cell, draw, results)
        return results.add(cell, **values, seconds=round(perf_counter() - started, 1))

    def _measure(self, cell: Cell, draw: Draw, results: Results) -> dict[str, Any]:
        if cell.arm in WRITING:
            self._check_pool(draw, results)
        if cell.arm in UNTRAINED:
            arm = {"data": "unfiltered10", "data20": "unfiltered20"}[cell.arm]
            return describe_rows(draw, self._add_rows(arm, draw), self._judge(cell.task))
        if cell.arm.startswith(PROBE):
            rows = self._choose_rows(cell.arm.removeprefix(PROBE), draw)
            return {**measure_probe(draw.task, rows), "numRows": len(rows)}
        if cell.arm == "zeroShot":
            return self._lab.measure_base(draw, ())
        if cell.arm == "inContext":
            return self._lab.measure_base(draw, draw.seeds)
        rows = self._choose_rows(cell.arm, draw)
        digest = digest_rows(rows)
        facts = {"numRows": len(rows), "rowsDigest": digest}
        if same := results.find_same_rows(cell, digest):
            measured = {name: same[name] for name in ("raw", "calibrated", "loss")}
            return {**measured, **facts, "sameAs": same["arm"]}
        if cell.arm == "filtered10":
            facts["funnel"] = self._count_dropped(draw)
        return {**self._lab.measure_trained(draw, rows), **facts}

    def _count_dropped(self, draw: Draw) -> dict[str, Any]:
        funnel = self._judge_rows(draw, self._write(draw))
        return {
            "seen": funnel.report[FILTERS[0]]["seen"],
            "dropped": dict(Counter(funnel.dropped_by.values())),
            "trusted": funnel.report["consistency"]["trusted"],
        }

    def _check_pool(self, draw: Draw, results: Results) -> None:
        """See that the repeat's synthetic rows are those of its finished cells.

        Raises:
            SystemExit: they were written elsewhere, and this machine writes others.
        """
        written = results.by_cell.get(Cell(draw.task.name, draw.seed - 1, "unfiltered10"))
        digest = digest_rows([*draw.seeds, *self._write(draw)])
        if written and written["rowsDigest"] != digest:
            name = f"{draw.task.name}, repeat {draw.seed - 1}"
            raise SystemExit(
                f"Cells of {name}, were trained on other synthetic rows than this machine writes. "
                "Go on in the --out of those cells, or name a new file with --results."
            )

    def _choose_rows(self, arm: str, draw: Draw) -> list[Example]:
        """What an arm is trained on; the real rows are always among them."""
        if arm == "duplicated":
            return duplicate_seeds(draw, SIZE)
        return [*draw.seeds, *self._add_rows(arm, draw)]

    def _add_rows(self, arm: str, draw: Draw) -> Sequence[Example]:
        if arm == "real":
            return ()
        if arm in NOISE:
            return play_teacher(draw, NOISE[arm])
        if arm in TEMPERATURES:
            return self._write(draw, TEMPERATURES[arm])
        pool = self._write(draw)
        if arm == "unfiltered5":
            return take_first(pool, 5)
        if arm == "unfiltered20":
            return [*pool, *self._write(draw, second_half=True)]
        if arm == "confirmed10":
            agrees = self._judge(draw.task.name).agrees(pool)
            return [row for row, agreed in zip(pool, agrees, strict=True) if agreed]
        if arm == "forced10":
            return self._lab.force_consistency(draw, self._filter(draw, pool))
        if arm == "filtered10":
            return self._filter(draw, pool)
        if arm.startswith("through "):
            funnel = self._judge_rows(draw, pool)
            return keep_through(pool, funnel.dropped_by, arm.removeprefix("through "))
        return pool  # unfiltered10

    def _filter(self, draw: Draw, pool: Sequence[Example]) -> list[Example]:
        dropped = self._judge_rows(draw, pool).dropped_by
        return [row for row in pool if row.id not in dropped]

    def _judge_rows(self, draw: Draw, pool: Sequence[Example]) -> Funnel:
        path = self._locate(draw, "funnel")
        if not path.exists():
            _write_json(path, asdict(self._lab.filter_rows(draw, pool)))
        return Funnel(**json.loads(path.read_text(encoding="utf-8")))

    def _write(
        self, draw: Draw, temperature: float = 1.0, *, second_half: bool = False
    ) -> list[Example]:
        """Synthetic rows, `SIZE` per class; written once."""
        seed = draw.seed + (SECOND_HALF if second_half else 0)
        path = self._locate(draw, f"rows-{seed}-{temperature}")
        if not path.exists():
            rows, report = self._lab.write_rows(draw, SIZE, temperature, seed)
            kept = [asdict(row) for row in take_first(rows, SIZE)]
            _write_json(path, {"report": report, "rows": kept})
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return [Example(**{**row, "context": ()}) for row in rows]

    def _locate(self, draw: Draw, name: str) -> Path:
        return self._out / "rows" / f"{draw.task.name}-{draw.seed}-{name}.json"


def run_cells(
    cells: Sequence[Cell], results: Results, measure: Callable[[Cell, Results], dict[str, Any]]
) -> None:
    """Measure the cells that are not done; a finished one is on disk before the next begins."""
    for place, cell in enumerate(cells, start=1):
        if cell in results.by_cell:
            continue
        record = measure(cell, results)
        share = record["raw"].count("1") / len(record["raw"]) if "raw" in record else float("nan")
        print(
            f"{place}/{len(cells)} {cell.task} repeat {cell.repeat} {cell.arm}: {share:.3f} "
            f"in {record['seconds']} s",
            flush=True,
        )


def _write_json(path: Path, values: object) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")
    partial.replace(path)
