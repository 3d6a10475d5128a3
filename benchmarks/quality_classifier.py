"""Is a fine-tuned encoder a better quality classifier than the frozen one that Loam has?

    python benchmarks/quality_classifier.py run --data DIR --out FILE [--repeats 3]
    python benchmarks/quality_classifier.py tables --out FILE

Both learn from the same seeds, the same rows made bad from them (`corruptions`) and nothing else:

- frozen: Loam's, a logistic regression on words, embeddings of frozen MiniLM, and how the sides
  agree (`filters/quality.py`);
- tuned: all layers of the same MiniLM, reading input and target as a pair, with one output on the
  mean of its tokens; 3 epochs of batches of 16, AdamW, good and bad weighted alike.

Both are measured on the same rows of the test file, which neither has seen: against faults made as
the ones they learnt from, and against *real errors*. Of labels these are what a naive Bayes
classifier, trained on the whole training file, gets wrong; of answers, the answer of the other row
whose question has the most words in common (of one document where there are several); of SQL, the
seed's query with one word exchanged, which runs and returns another result.

DIR holds the data sets of TASKS, each with train.jsonl and test.jsonl. FILE gets a line for every
cell; the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from scipy.stats import t as student
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import MultinomialNB

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.embeddings import PACKAGE, embed_texts
from loam_runtime.synthesis.filters.corruptions import Pair, corrupt_seed
from loam_runtime.synthesis.filters.execution import ANOTHER_RESULT, Executor
from loam_runtime.synthesis.filters.quality import QualityFilter

SIZES = (50, 100, 200)
NUM_TEST_ROWS = 100
EPOCHS = 3
BATCH = 16
MAX_TOKENS = 96
RATE = 1e-4
MIN_CELLS = 3  # fewer say nothing of another draw
Fault = tuple[str, Pair]


@dataclass(frozen=True, slots=True)
class Task:
    """A data set.

    Attributes:
        fields: the columns that are input and target.
        database: the SQLite file beside the rows, for SQL.
    """

    name: str
    fields: tuple[str, str]
    database: str = ""

    @property
    def is_classification(self) -> bool:
        return self.fields == ("text", "label")


TASKS = (
    Task("sst2", ("text", "label")),
    Task("trec6", ("text", "label")),
    Task("ag_news", ("text", "label")),
    Task("med_question_sum", ("document", "summary")),
    Task("nl2sql_geo", ("question", "query"), "geography.sqlite"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("part", choices=["run", "tables"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tasks", nargs="*", default=[task.name for task in TASKS])
    parser.add_argument("--sizes", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--bf16", action="store_true", help="where the CPU multiplies in bf16")
    arguments = parser.parse_args()
    if arguments.part == "run":
        run_cells(arguments)
    else:
        show_tables(_read_cells(arguments.out))


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


def run_cells(arguments: argparse.Namespace) -> None:
    """All cells that the file does not have yet, repeat by repeat."""
    done = {(it["task"], it["seeds"], it["repeat"]) for it in _read_cells(arguments.out)}
    embed_texts(["so that loading the model is nobody's time"])
    for repeat in range(arguments.repeats):
        for size in arguments.sizes:
            for task in TASKS:
                if task.name in arguments.tasks and (task.name, size, repeat) not in done:
                    cell = measure_cell(task, size, repeat, arguments)
                    with arguments.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(cell) + "\n")
                    print(json.dumps(cell), flush=True)


def measure_cell(task: Task, size: int, repeat: int, arguments: argparse.Namespace) -> dict:
    """Both classifiers on one draw of seeds and test rows."""
    rng = random.Random(f"{task.name}/{size}/{repeat}")
    train, test = (load_rows(arguments.data, task, side) for side in ("train", "test"))
    seeds = rng.sample(train, size)
    held_out = rng.sample(test, min(NUM_TEST_ROWS, len(test)))
    made = list(_corrupt(task, held_out, rng))
    real = list(_find_real_errors(task, train, test, held_out, rng, arguments.data))
    good = [(row.input, row.target) for row in held_out]
    cell = {"task": task.name, "seeds": size, "repeat": repeat, "real_errors": len(real)}
    fits: dict[str, Callable[[], Callable[[Sequence[Pair]], np.ndarray]]] = {
        "frozen": lambda: _fit_frozen(task, seeds),
        "tuned": lambda: TunedClassifier(arguments.rate, arguments.epochs, arguments.bf16).fit(
            *_label(task, seeds, rng)
        ),
    }
    for name, fit in fits.items():
        started = perf_counter(), process_time()
        score = fit()
        cell[f"{name}_wall_s"] = round(perf_counter() - started[0], 2)
        cell[f"{name}_cpu_s"] = round(process_time() - started[1], 2)
        of_good = score(good)
        for kind, bad in (("made", made), ("real", real)):
            cell[f"{name}_{kind}"] = _compute_auc(of_good, score([pair for _, pair in bad]))
        swapped = [
            pair for fault, pair in made if fault in ("wrong label", "answer of another row")
        ]
        cell[f"{name}_swapped"] = _compute_auc(of_good, score(swapped))
    cell["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return cell


def load_rows(folder: Path, task: Task, side: str) -> list[Example]:
    """The rows of one file."""
    rows = []
    path = folder / task.name / f"{side}.jsonl"
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        values = json.loads(line)
        text, target = (values[field] for field in task.fields)
        rows.append(Example(f"{side}{number}", text, target))
    return rows


def _corrupt(task: Task, rows: Sequence[Example], rng: random.Random) -> Iterator[Fault]:
    for place, row in enumerate(rows):
        yield from corrupt_seed(
            row, rows, rng, is_classification=task.is_classification, fold=place
        )


def _label(
    task: Task, seeds: Sequence[Example], rng: random.Random
) -> tuple[list[Pair], np.ndarray]:
    """What both learn from: pairs, and whether each is good."""
    good = [(seed.input, seed.target) for seed in seeds]
    bad = [pair for _, pair in _corrupt(task, seeds, rng)]
    return [*good, *bad], np.array([1] * len(good) + [0] * len(bad))


def _find_real_errors(
    task: Task,
    train: Sequence[Example],
    test: Sequence[Example],
    held_out: Sequence[Example],
    rng: random.Random,
    folder: Path,
) -> Iterator[Fault]:
    if task.is_classification:
        # On all test rows: a classifier is wrong about few of a hundred.
        words = CountVectorizer(ngram_range=(1, 2))
        model = MultinomialNB().fit(
            words.fit_transform([row.input for row in train]), [row.target for row in train]
        )
        found = model.predict(words.transform([row.input for row in test]))
        for row, label in zip(test, found, strict=True):
            if label != row.target:
                yield "a model's error", (row.input, str(label))
    elif task.database:
        executor = Executor(held_out, folder / task.name / task.database)
        for row in held_out:
            yield from (it for it in executor.spoil(row, rng) if it[0] == ANOTHER_RESULT)
    else:
        vectors = TfidfVectorizer().fit_transform([row.input for row in held_out])
        similarity = (vectors @ vectors.T).toarray()
        for place, row in enumerate(held_out):
            for other in np.argsort(-similarity[place]):
                if held_out[other].target != row.target:
                    yield "answer of the nearest row", (row.input, held_out[other].target)
                    break


def _fit_frozen(task: Task, seeds: Sequence[Example]) -> Callable[[Sequence[Pair]], np.ndarray]:
    filter_ = QualityFilter(seeds, 0.0, is_classification=task.is_classification)
    assert filter_.fit.num_seeds == len(seeds)

    def score(pairs: Sequence[Pair]) -> np.ndarray:
        rows = [Example(f"{place}", *pair) for place, pair in enumerate(pairs)]
        return np.array([verdict.score for verdict in filter_.judge(rows)])

    return score


class TunedClassifier:
    """MiniLM as a cross-encoder, fine-tuned whole but for its embedding tables.

    Args:
        rate: the highest learning rate; it rises for a tenth of the steps, then falls to 0.
        epochs: passes over the rows.
        is_bf16: multiply in bf16.
    """

    def __init__(self, rate: float, epochs: int, is_bf16: bool) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        spec = find_spec(PACKAGE)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent / "model"
        torch.manual_seed(0)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModel.from_pretrained(folder, local_files_only=True)
        self._model.embeddings.requires_grad_(False)  # 200 seeds name few of 30,000 words
        self._head = torch.nn.Linear(self._model.config.hidden_size, 1)
        self._rate = rate
        self._epochs = epochs
        self._is_bf16 = is_bf16

    def fit(
        self, pairs: Sequence[Pair], is_good: np.ndarray
    ) -> Callable[[Sequence[Pair]], np.ndarray]:
        """Train on pairs and whether each is good; returns what scores pairs."""
        import torch

        parts = [*self._model.encoder.parameters(), *self._head.parameters()]
        optimizer = torch.optim.AdamW(parts, lr=self._rate, weight_decay=0.01)
        num_steps = self._epochs * -(-len(pairs) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self._rate, total_steps=num_steps, pct_start=0.1, anneal_strategy="linear"
        )
        weight = torch.tensor((len(pairs) - is_good.sum()) / is_good.sum(), dtype=torch.float32)
        loss_of = torch.nn.BCEWithLogitsLoss(pos_weight=weight)
        rng = np.random.default_rng(0)
        self._model.train()
        for _ in range(self._epochs):
            order = rng.permutation(len(pairs))
            for start in range(0, len(pairs), BATCH):
                places = order[start : start + BATCH]
                goal = torch.tensor(is_good[places], dtype=torch.float32)
                loss = loss_of(self._compute([pairs[place] for place in places]), goal)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parts, 1.0)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
        self._model.eval()
        return self.score

    def score(self, pairs: Sequence[Pair]) -> np.ndarray:
        """[num_pairs]"""
        import torch

        order = sorted(range(len(pairs)), key=lambda place: len("".join(pairs[place])))
        scores = np.zeros(len(pairs))
        with torch.inference_mode():
            for start in range(0, len(pairs), 64):
                places = order[start : start + 64]
                scores[places] = self._compute([pairs[place] for place in places]).numpy()
        return scores

    def _compute(self, pairs: Sequence[Pair]) -> object:
        import torch

        batch = self._tokenizer(
            [text for text, _ in pairs],
            [target for _, target in pairs],
            truncation="longest_first",
            max_length=MAX_TOKENS,
            padding=True,
            return_tensors="pt",
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=self._is_bf16):
            hidden = self._model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        return self._head((hidden.float() * mask).sum(1) / mask.sum(1)).squeeze(1)


def show_tables(cells: Sequence[dict]) -> None:
    """Means over repeats by data set and size; then the paired differences of cells."""
    groups = defaultdict(list)
    for cell in cells:
        groups[cell["task"], cell["seeds"]].append(cell)
    print(
        "| data | seeds | repeats | made faults: frozen, tuned | swapped alone: frozen, tuned "
        "| real errors: frozen, tuned | CPU s: frozen with its folds, tuned once |"
    )
    print("|---" * 7 + "|")
    for (task, size), group in groups.items():
        pairs = " | ".join(
            f"{_mean(group, f'frozen_{kind}'):.2f}, {_mean(group, f'tuned_{kind}'):.2f}"
            for kind in ("made", "swapped", "real")
        )
        seconds = f"{_mean(group, 'frozen_cpu_s'):.0f}, {_mean(group, 'tuned_cpu_s'):.0f}"
        print(f"| {task} | {size} | {len(group)} | {pairs} | {seconds} |")
    print()
    print(
        "| tuned minus frozen, points of AUC (95 %) | cells | made faults | swapped alone "
        "| real errors |"
    )
    print("|---" * 5 + "|")
    shown = {"all": list(cells)}
    shown |= {f"{size} seeds": [it for it in cells if it["seeds"] == size] for size in SIZES}
    shown |= {task.name: [it for it in cells if it["task"] == task.name] for task in TASKS}
    for name, group in shown.items():
        if group:
            figures = " | ".join(_compare(group, kind) for kind in ("made", "swapped", "real"))
            print(f"| {name} | {len(group)} | {figures} |")
    print(f"\npeak {max(it['peak_mb'] for it in cells)} MB")


def _compare(cells: Sequence[dict], kind: str) -> str:
    """Mean paired difference, with Student's interval from three cells on."""
    differences = 100 * np.array([it[f"tuned_{kind}"] - it[f"frozen_{kind}"] for it in cells])
    value = differences.mean()
    if len(differences) < MIN_CELLS:
        return f"{value:+.1f}"
    spread = differences.std(ddof=1) / np.sqrt(len(differences))
    low, high = student.interval(0.95, len(differences) - 1, loc=value, scale=spread)
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _mean(cells: Sequence[dict], name: str) -> float:
    return float(np.mean([cell[name] for cell in cells]))


def _compute_auc(good: np.ndarray, bad: np.ndarray) -> float:
    truth = np.array([1] * len(good) + [0] * len(bad))
    return round(float(roc_auc_score(truth, np.concatenate([good, bad]))), 4)


def _read_cells(path: Path) -> list[dict]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
