"""What the filters of synthetic rows find, and what they cost.

    python benchmarks/filters.py rules      precision and recall of every duplicate and
                                            contamination rule, on tests/tools/duplicate_pairs.jsonl
    python benchmarks/filters.py scale      near duplicates among 100,000 rows, then the choice of
                                            10,000 of them with their embeddings given: seconds and
                                            peak memory (the goal: 60 s and 2 GB on 2 cores)

The rows of `scale` are questions from templates over 6,000 made-up words, 5 to 20 words long; one
in ten is an earlier row with a word changed. Embeddings are random around 200 centres.
"""

from __future__ import annotations

import argparse
import random
import resource
import string
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.filters.near_duplicates import NearDuplicateFilter
from loam_runtime.synthesis.selection import select_rows

LABELS = 6
STARTS = ("what is the", "who was the first", "how many", "where can I find the", "why does my")
DIMENSIONS = 384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("part", choices=["rules", "scale"])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--chosen", type=int, default=10_000)
    parser.add_argument("--labels", type=int, default=LABELS, help="1: one pool, the dearest case")
    arguments = parser.parse_args()
    if arguments.part == "rules":
        show_rules()
    else:
        measure_scale(arguments.rows, arguments.chosen, arguments.labels)


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


def show_rules() -> None:
    """The table of docs/filters.md."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.tools.duplicate_rules import RULES, measure_rule, read_pairs

    kinds = ("copy", "edit", "paraphrase", "excerpt", "different")
    total = [kind for kind, *_ in read_pairs()]
    counts = " | ".join(f"{kind} ({total.count(kind)})" for kind in kinds)
    print(f"| rule | precision | recall | {counts} |")
    print("|---" * (3 + len(kinds)) + "|")
    for name in RULES:
        figures = measure_rule(name)
        found = " | ".join(str(figures.found[kind]) for kind in kinds)
        print(f"| {name} | {figures.precision:.2f} | {figures.recall:.2f} | {found} |")
        for first, second in figures.wrong:
            print(f"    wrong: {first} / {second}", file=sys.stderr)


def measure_scale(num_rows: int, num_chosen: int, num_labels: int) -> None:
    """Seconds and peak memory of the two steps, and what they did."""
    rows = make_rows(num_rows, num_labels)
    started = perf_counter()
    filter_ = NearDuplicateFilter(rows[:100], is_classification=True)
    verdicts = [
        verdict
        for start in range(100, num_rows, 1000)  # as they come, a round at a time
        for verdict in filter_.judge(rows[start : start + 1000])
    ]
    dropped = sum(bool(verdict.reason) for verdict in verdicts)
    filtered = perf_counter()
    print(f"near duplicates  {num_rows:,} rows  {filtered - started:.1f} s  {dropped:,} dropped")
    vectors = make_vectors(num_rows)
    places = {row.input: place for place, row in enumerate(rows)}
    scores = {row.id: random.Random(row.id).random() for row in rows}
    quota = num_chosen // num_labels
    started = perf_counter()
    chosen = select_rows(
        rows,
        scores,
        {f"label {label}": quota for label in range(num_labels)},
        seeds=rows[:100],
        diversity_weight=0.3,
        embed=lambda texts: vectors[[places[text] for text in texts]],
    )
    print(f"selection        {len(chosen):,} rows  {perf_counter() - started:.1f} s")
    print(f"peak memory      {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def make_rows(count: int, num_labels: int) -> list[Example]:
    """Rows by label in turn; every tenth repeats one of the last thousand with a word changed."""
    rng = random.Random(0)
    words = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9))) for _ in range(6000)]
    texts: list[str] = []
    for number in range(count):
        if number % 10 == 9:
            parts = rng.choice(texts[-1000:]).split()
            parts[rng.randrange(len(parts))] = rng.choice(words)
        else:
            parts = [rng.choice(STARTS), *rng.choices(words, k=rng.randint(5, 20))]
        texts.append(" ".join(parts))
    return [
        Example(f"{number}", text, f"label {number % num_labels}")
        for number, text in enumerate(texts)
    ]


def make_vectors(count: int) -> np.ndarray:
    """[count, 384] of unit length, around 200 centres."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, DIMENSIONS)).astype(np.float32)
    vectors = centres[rng.integers(0, 200, count)]
    vectors += rng.normal(size=vectors.shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
