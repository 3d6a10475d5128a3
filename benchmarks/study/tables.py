"""The tables of docs/benchmarks.md, from the finished cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from benchmarks.study.arms import FILTERS, PLAYED, PROBE, PROMPTED, TIERS, UNTRAINED, WRITTEN
from benchmarks.study.data_quality import SIZES
from benchmarks.study.paired import Difference, compare_arms
from benchmarks.study.results import Results
from benchmarks.study.tasks import WORDINGS

ARMS = [arm for tier in TIERS for arm in tier if arm not in UNTRAINED]
PROBE_ARMS = [PROBE + arm for arm in (*PLAYED, *WRITTEN)]
TASKS = tuple(WORDINGS)


def print_tables(results: Results) -> None:
    """Everything that can be said so far."""
    print(f"\n{len(results.by_cell)} finished cells\n")
    print_scores(results, ARMS)
    print_differences(results, ARMS, "real", "LoRA on the real rows alone")
    print_differences(results, ARMS, "inContext", "the real rows in the prompt")
    print_scores(results, PROBE_ARMS)
    print_differences(results, PROBE_ARMS, "probe real", "the quick student on the real rows")
    print_rows(results)
    print_funnels(results)


def read_hits(record: dict[str, Any]) -> np.ndarray:
    """[num_rows] of 0 and 1.

    A trained model answers by its raw scores. Of the base model the better of raw and calibrated
    is taken, on the very test rows: in its favour, never in that of the arms that are trained.
    """
    names = ("raw", "calibrated") if record["arm"] in PROMPTED else ("raw",)
    sides = [np.array([int(hit) for hit in record[name]]) for name in names]
    return max(sides, key=lambda side: side.mean())


def collect_scores(results: Results, arm: str, task: str) -> dict[int, np.ndarray]:
    """Hits by repeat."""
    return {
        cell.repeat: read_hits(record)
        for cell, record in results.by_cell.items()
        if (cell.arm, cell.task) == (arm, task)
    }


def compare(results: Results, arm: str, other: str, tasks: Sequence[str]) -> Difference | None:
    """`arm` minus `other` on the repeats that have both; None where a data set has none."""
    by_task = []
    for task in tasks:
        ours, theirs = (collect_scores(results, name, task) for name in (arm, other))
        by_task.append([ours[repeat] - theirs[repeat] for repeat in sorted({*ours} & {*theirs})])
    return compare_arms(by_task) if all(by_task) else None


def print_scores(results: Results, arms: Sequence[str]) -> None:
    """Mean accuracy of each arm over its repeats, and how many these are."""
    print(f"| arm | {' | '.join(TASKS)} | repeats |")
    print("|---" * (2 + len(TASKS)) + "|")
    for arm in arms:
        scores = [collect_scores(results, arm, task) for task in TASKS]
        if any(scores):
            shares = [_mean(one) for one in scores]
            print(f"| {arm} | {' | '.join(shares)} | {' / '.join(str(len(x)) for x in scores)} |")
    print()


def _mean(by_repeat: dict[int, np.ndarray]) -> str:
    if not by_repeat:
        return ""
    shares = [hits.mean() for hits in by_repeat.values()]
    return f"{np.mean(shares):.3f}"


def print_differences(results: Results, arms: Sequence[str], other: str, title: str) -> None:
    """Each arm minus one, in percentage points, with intervals."""
    print(f"Difference to {title}, percentage points (95 % interval; * leaves 0 out):\n")
    print(f"| arm | {' | '.join(TASKS)} | mean of the three |")
    print("|---" * (2 + len(TASKS)) + "|")
    for arm in arms:
        groups = [*([task] for task in TASKS), TASKS]
        found = [compare(results, arm, other, group) for group in groups]
        if arm != other and any(found):
            print(f"| {arm} | {' | '.join(map(format_difference, found))} |")
    print()


def format_difference(difference: Difference | None) -> str:
    """ "+3.1 (-0.4 to 6.6)"; a single repeat has no interval."""
    if difference is None:
        return ""
    value = f"{100 * difference.value:+.1f}"
    if difference.low is None or difference.high is None:
        return f"{value} (1 repeat)"
    interval = f"({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
    return f"{value} {interval}{' *' if difference.is_decided else ''}"


def print_rows(results: Results) -> None:
    """Label noise and variety of the synthetic rows, by size, beside real ones."""
    header = (
        "data set",
        "rows per class",
        "repeats",
        "labels confirmed (of real test rows)",
        *(f"{name} synthetic / real" for name in ("distinct-2", "dispersion", "novelty")),
    )
    print(f"| {' | '.join(header)} |")
    print("|---" * len(header) + "|")
    for task in TASKS:
        for size in map(str, SIZES):
            mine = _find_described(results, task, size)
            if mine:
                confirmed = f"{_average(mine, 'confirmed')} ({_average(mine, 'judgeAccuracy')})"
                sides = [one["sizes"][size] for one in mine]
                cells = [_average_sides(sides, name) for name in sides[0]["real"]]
                print(f"| {task} | {size} | {len(mine)} | {confirmed} | {' | '.join(cells)} |")
    print()


def _find_described(results: Results, task: str, size: str) -> list[dict[str, Any]]:
    """One record a repeat, of the larger pool where both are there."""
    found = {
        cell.repeat: record
        for arm in UNTRAINED
        for cell, record in results.by_cell.items()
        if (cell.arm, cell.task) == (arm, task) and size in record["sizes"]
    }
    return list(found.values())


def _average(records: Sequence[dict[str, Any]], name: str) -> str:
    known = [record[name] for record in records if record[name] is not None]
    return f"{np.mean(known):.2f}" if known else ""


def _average_sides(records: Sequence[dict[str, Any]], name: str) -> str:
    sides = [_average([record[side] for record in records], name) for side in ("synthetic", "real")]
    return " / ".join(sides)


def print_funnels(results: Results) -> None:
    """How many rows each filter dropped, and in how many repeats label consistency was trusted."""
    print("| data set | repeats | rows |", " | ".join(FILTERS), "| quality | consistency trusted |")
    print("|---" * (len(FILTERS) + 5) + "|")
    for task in TASKS:
        funnels = [
            record["funnel"]
            for cell, record in results.by_cell.items()
            if (cell.arm, cell.task) == ("filtered10", task)
        ]
        if not funnels:
            continue
        dropped: Counter[str] = Counter()
        for funnel in funnels:
            dropped.update(funnel["dropped"])
        seen = sum(funnel["seen"] for funnel in funnels)
        counts = " | ".join(str(dropped[name]) for name in (*FILTERS, "quality"))
        trusted = sum(funnel["trusted"] for funnel in funnels)
        print(f"| {task} | {len(funnels)} | {seen} | {counts} | {trusted} |")
