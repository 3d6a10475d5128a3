"""Does synthetic data help a small model with a few real examples?

    python benchmarks/does_it_help.py                                      print what is measured
    python benchmarks/does_it_help.py --data DIR --model FILE --out DIR     measure what is not

Three data sets (SST-2, TREC's six classes, AG News), 4 real rows a class, one model that writes the
rows, filters them, learns from them and is measured: in-context examples, LoRA on the real rows,
on the real rows repeated, on real and synthetic rows, unfiltered and filtered, and on rows of a
better teacher, played by held-back real rows with a known share of wrong labels. Every arm is
trained for as many steps of as many rows at the same rate. A repeat redraws seeds, synthetic rows,
test rows and the training's randomness; arms are compared within repeats, row by row.

A second, quick student (logistic regression on sentence embeddings) learns the same rows in
milliseconds: it gives the curve of value against teacher quality over many repeats.

The run may be ended at any moment: each finished cell is a line of the file --results, by default
the one beside the study's code, and the same command goes on where it was. The rows that the model
has written stay in OUT; another machine may write others, and is then told to begin anew. A cell
with a training takes 50 seconds of one CPU core. DIR of --data holds sst2, trec6 and ag_news, each
with train.jsonl and test.jsonl of rows {"text", "label"}.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.study.arms import order_cells
from benchmarks.study.results import Results
from benchmarks.study.tables import print_tables
from benchmarks.study.tasks import NUM_TEST_ROWS, WORDINGS

RESULTS = Path(__file__).parent / "study" / "results.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="measure; the folder of the data sets")
    parser.add_argument("--model", type=Path, help="the base model, a folder or .gguf file")
    parser.add_argument("--out", type=Path, help="for written rows; outside the repository")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--test-rows", type=int, default=NUM_TEST_ROWS)
    arguments = parser.parse_args()
    results = Results(arguments.results)
    if arguments.data:
        if not (arguments.model and arguments.out):
            parser.error("to measure, --model and --out are needed too")
        _measure(arguments, results)
    print_tables(results)


def _measure(arguments: argparse.Namespace, results: Results) -> None:
    from benchmarks.study.lab import Lab, Recipe
    from benchmarks.study.run import Study, run_cells

    lab = Lab(arguments.model, arguments.out / "scratch", Recipe())
    study = Study(arguments.data, arguments.out, lab, arguments.test_rows)
    run_cells(list(order_cells(list(WORDINGS), arguments.repeats)), results, study.measure)


if __name__ == "__main__":
    main()
