"""The data sets of the study, and what one repeat draws of each.

Rows are short, so that a model is trained and measured in under a minute on one CPU core: reviews
and questions of at most 14 words, and the headlines of the news without their text.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from loam_api.finetunejob import DataSource, DataSpec
from loam_runtime.data.examples import Example, compute_example_id
from loam_runtime.data.prompt import PromptContract, build_contract

MAX_WORDS = 14
SEEDS_PER_CLASS = 4
NUM_TEST_ROWS = 100
# By data set: the wording around a row, and single words that the model knows for the labels.
WORDINGS: dict[str, tuple[str, dict[str, str]]] = {
    "sst2": ("Review: {input}\nSentiment:", {}),
    "trec6": (
        "Question: {input}\nType:",
        {
            "ABBR": "abbreviation",
            "DESC": "description",
            "ENTY": "thing",
            "HUM": "person",
            "LOC": "place",
            "NUM": "number",
        },
    ),
    "ag_news": ("News: {input}\nTopic:", {"Sci/Tech": "Technology"}),
}


@dataclass(frozen=True)
class Task:
    """One data set: its short rows.

    Attributes:
        train, test: rows of the two files, never mixed.
    """

    name: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted({row.target for row in self.train}))

    @cached_property
    def contract(self) -> PromptContract:
        """The prompt, the same for synthesis, training and measurement."""
        prompt, verbalizers = WORDINGS[self.name]
        spec = DataSpec(
            seeds=DataSource(uri=f"file://{self.name}"),
            task="classification",
            template={"prompt": prompt, "labels": verbalizers},
        )
        return build_contract(spec, self.labels)


@dataclass(frozen=True, slots=True)
class Draw:
    """What one repeat has of a task; another repeat draws all of it anew.

    Attributes:
        seeds: real training rows, a few per class; all that every arm may know.
        held_back: the other real training rows, from which a better teacher is played.
        test: rows on which every arm of the repeat is measured.
        seed: of synthesis, training and whatever else is random in this repeat.
    """

    task: Task
    seeds: tuple[Example, ...]
    held_back: tuple[Example, ...]
    test: tuple[Example, ...]
    seed: int


def load_task(folder: Path, name: str) -> Task:
    """Read one data set of rows {"text", "label"} in `train.jsonl` and `test.jsonl`."""
    sides = [_read_rows(folder / name / f"{side}.jsonl", name) for side in ("train", "test")]
    return Task(name, *sides)


def _read_rows(path: Path, name: str) -> tuple[Example, ...]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        values = json.loads(line)
        text, label = values["text"], values["label"]
        if name == "ag_news":
            text = text.split(". ")[0].rstrip(".")
        if len(text.split()) <= MAX_WORDS:
            place = f"{path.stem}:{number}"
            rows.append(Example(compute_example_id(text, label, place), text, label, source=place))
    return tuple(rows)


def draw_repeat(task: Task, repeat: int, num_test_rows: int = NUM_TEST_ROWS) -> Draw:
    """The rows of one repeat, the same whenever it is asked for."""
    rng = random.Random(f"{task.name}/{repeat}")
    seeds = take_per_class(task.train, SEEDS_PER_CLASS, rng)
    chosen = {row.id for row in seeds}
    held_back = tuple(row for row in task.train if row.id not in chosen)
    test = rng.sample(task.test, min(num_test_rows, len(task.test)))
    return Draw(task, tuple(seeds), held_back, tuple(test), seed=repeat + 1)


def take_per_class(rows: tuple[Example, ...], count: int, rng: random.Random) -> list[Example]:
    """`count` random rows of each label, class by class."""
    labels = sorted({row.target for row in rows})
    return [
        row
        for label in labels
        for row in rng.sample([row for row in rows if row.target == label], count)
    ]
