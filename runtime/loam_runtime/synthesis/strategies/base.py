"""What a synthesis strategy is: it writes requests and reads answers."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from loam_runtime.data.examples import Example, compute_example_id
from loam_runtime.data.normalize import has_half_pair, mend_surrogates
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest

HALF_PAIR = "half a surrogate pair, which is no character"


@dataclass(frozen=True, slots=True)
class TaskBrief:
    """What every strategy knows about the task.

    Attributes:
        seeds: training rows, and nothing else: no test or validation row may be shown.
        is_classification: targets are labels.
        description: the task in a sentence or two; may be empty.
        constraints: what every example must respect.
        random_seed: of the run.
        label_names: what the teacher is told a label is called; itself where not listed.
        task: name of the task as `data.task` has it; "" where it is not known.
        languages: share of the rows by language (ISO 639-1); empty for the seeds' own.
        database: SQLite file that SQL answers must run in, where there is one.
    """

    seeds: tuple[Example, ...]
    is_classification: bool
    description: str = ""
    constraints: tuple[str, ...] = ()
    random_seed: int = 0
    label_names: Mapping[str, str] = field(default_factory=dict)
    task: str = ""
    languages: Mapping[str, float] = field(default_factory=dict)
    database: Path | None = None

    @property
    def has_pairs(self) -> bool:
        """Rows are preference pairs: each with a refused answer."""
        return any(seed.rejected for seed in self.seeds)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the seeds, sorted; one empty name where the task has none."""
        if not self.is_classification:
            return ("",)
        return tuple(sorted({seed.target for seed in self.seeds}))

    def name_label(self, label: str) -> str:
        """What the teacher reads for a label."""
        return self.label_names.get(label, label)

    def list_seeds(self, label: str) -> list[Example]:
        """The seeds of one label; all of them for the empty name."""
        return [seed for seed in self.seeds if not label or seed.target == label]

    def make_random(self, draw: int) -> random.Random:
        """Randomness of one draw, the same in every start of the run."""
        return random.Random(f"{self.random_seed}/{draw}")


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How the teacher's tokens are drawn; see `TeacherRequest`."""

    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    max_tokens: int = 256

    def compose(
        self,
        *messages: tuple[str, str],
        stop: tuple[str, ...] = (),
        row_keys: tuple[str, ...] = (),
        draw: int = 0,
    ) -> TeacherRequest:
        """The request with these messages, drawn so."""
        return TeacherRequest(
            messages=messages,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            stop=stop,
            row_keys=row_keys,
            draw=draw,
        )


@dataclass(frozen=True, slots=True)
class Draw:
    """One request and what it asks for.

    Attributes:
        index: number of the draw in the run, from 0.
        label: the label asked for; "" where the task has none.
        request: what is sent.
    """

    index: int
    label: str
    request: TeacherRequest


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that is not used, with the reason and, where one was computed, the score."""

    row: Example
    reason: str
    filter: str
    score: float | None = None

    def to_record(self) -> dict[str, object]:
        """The row as a plain record: what, why, by which filter, with which score."""
        return {
            "input": self.row.input,
            "target": self.row.target,
            "reason": self.reason,
            "filter": self.filter,
            "score": self.score,
            "source": self.row.source,
        }


@dataclass(slots=True)
class Reading:
    """What was read from one answer."""

    rows: list[Example] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


class Strategy(Protocol):
    """A way of having examples written; one instance per run.

    Attributes:
        rows_per_draw: rows asked for in one request.
    """

    rows_per_draw: int

    def compose(self, index: int, label: str, turn: int) -> Draw:
        """The request of a draw: the same for the same index, label, turn and task.

        Args:
            turn: how many draws of this label came before.
        """

    def read(self, draw: Draw, answer: TeacherAnswer) -> Reading:
        """The rows of an answer; what is not one is rejected with its reason."""

    def describe(self, kept: Sequence[Example]) -> dict[str, object]:
        """What the report says about the strategy, now that it is known which rows stay."""


def make_row(draw: Draw, position: int, input_text: str, target: str) -> Example:
    """A synthetic row, traceable to its draw."""
    place = f"draw {draw.index}, row {position + 1}"
    return Example(
        id=compute_example_id(input_text, target, place),
        input=input_text,
        target=target,
        origin="synthetic",
        source=place,
    )


def reject_answer(draw: Draw, text: str, reason: str, position: int = 0) -> Rejection:
    """A malformed answer, or part of one, kept for the reader; long ones are cut."""
    shown = mend_surrogates(text[:2000])
    return Rejection(make_row(draw, position, shown, draw.label), reason, "malformed")


def check_row(input_text: str, target: str, longest_seed_words: int) -> str:
    """Why a row cannot be used, or "".

    Args:
        longest_seed_words: of any input of the seeds; a row may be four times as long.
    """
    if not input_text.strip():
        return "empty input"
    if not target.strip():
        return "empty output"
    if not any(character.isalnum() for character in input_text):
        return "input without a word"
    if has_half_pair(input_text) or has_half_pair(target):
        return HALF_PAIR
    if len(input_text.split()) > 4 * max(longest_seed_words, 10):
        return "input far longer than any seed"
    return ""


def pick(rng: random.Random, items: Sequence[Example], count: int) -> list[Example]:
    """Up to `count` different items in random order."""
    return rng.sample(list(items), min(count, len(items)))
