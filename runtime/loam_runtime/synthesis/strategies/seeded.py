"""Seeded synthesis: the teacher writes new examples from an analysis of the seeds.

The second stage of the teacher-student pipeline: diverse generation with controlled variation.
Every request shows a few seeds, which rotate, and asks for several rows; for each row a
plan says how long it is, of which style, difficulty and subject, and by whom it is written. In
classification the label asked for is the row's label; in other tasks the teacher writes input
and output.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.analysis.seeds import analyze_seeds
from loam_runtime.synthesis.exchange import TeacherAnswer, estimate_tokens
from loam_runtime.synthesis.strategies.attributes import HARD, build_attributes
from loam_runtime.synthesis.strategies.base import (
    Draw,
    Reading,
    SamplingSettings,
    TaskBrief,
    reject_answer,
)
from loam_runtime.synthesis.strategies.forms import AnswerForm, JsonForm
from loam_runtime.synthesis.strategies.shapes import RowShape, choose_shape
from loam_runtime.synthesis.strategies.shots import ShotRotation
from loam_runtime.synthesis.strategies.wording import (
    describe_constraints,
    describe_profile,
    describe_task,
    join_paragraphs,
)
from loam_runtime.synthesis.variation import Coverage, VariationPlan

MAX_ROWS_PER_DRAW = 5
NUM_SHOTS = 4
USUAL_RATIONALE_TOKENS = 100


class SeededStrategy:
    """Asks for variations of the seeds, any task.

    Args:
        brief: the task.
        sampling: `max_tokens` also bounds how many rows one request asks for.
        shape: what a row is made of; by default what the seeds are.
        form: how rows are written down; by default as JSON.
    """

    def __init__(
        self,
        brief: TaskBrief,
        sampling: SamplingSettings,
        *,
        shape: RowShape | None = None,
        form: AnswerForm | None = None,
    ) -> None:
        self._brief = brief
        self._sampling = sampling
        self._shape = shape or choose_shape(brief, has_rationale=False)
        self._form = form or JsonForm()
        self.profile = analyze_seeds(brief.seeds, is_classification=brief.is_classification)
        self._longest_seed_words = max(
            len((seed.input or seed.target).split()) for seed in brief.seeds
        )
        self.rows_per_draw = self._choose_rows_per_draw()
        attributes = build_attributes(brief, self.profile, has_input=bool(self._shape.input))
        self._plan = VariationPlan(attributes, brief.random_seed)
        self._coverage = Coverage()
        self._shots = ShotRotation(brief)
        self._asked: dict[int, list[dict[str, str]]] = {}  # by draw
        self._attributes: dict[str, dict[str, str]] = {}  # by row

    def compose(self, index: int, label: str, turn: int) -> Draw:
        """See `Strategy`."""
        first = turn * self.rows_per_draw
        rows = [self._plan.assign(label, first + place) for place in range(self.rows_per_draw)]
        self._asked[index] = rows
        self._coverage.add_asked(rows)
        content = self._write_request(label, turn, rows)
        request = self._sampling.compose(
            ("system", self._form.system),
            ("user", content),
            row_keys=self._shape.keys if isinstance(self._form, JsonForm) else (),
            draw=index,
        )
        return Draw(index, label, request)

    def read(self, draw: Draw, answer: TeacherAnswer) -> Reading:
        """See `Strategy`."""
        if not answer.text.strip():
            return Reading(rejected=[reject_answer(draw, answer.text, "empty answer")])
        found = self._form.parse(answer.text, is_complete=answer.is_complete)
        if not found:
            reason = self._form.missing if answer.is_complete else "cut off at max_tokens"
            return Reading(rejected=[reject_answer(draw, answer.text, reason)])
        reading = Reading()
        for position, values in enumerate(found):
            self._read_row(draw, position, values, reading)
        return reading

    def describe(self, kept: Sequence[Example]) -> dict[str, object]:
        """The analysis of the seeds, and how far the plan of variation was carried out."""
        known = [(self._attributes.get(row.id, {}), row.input or row.target) for row in kept]
        lengths = [(attributes, len(text.split())) for attributes, text in known]
        return {
            "analysis": self.profile.describe(),
            "variation": self._plan.describe(self._coverage, lengths),
        }

    def _read_row(
        self, draw: Draw, position: int, values: dict[str, Any], reading: Reading
    ) -> None:
        row, reason = self._shape.build(draw, position, values, self._longest_seed_words)
        if row is None:
            text = json.dumps(values, ensure_ascii=False)
            reading.rejected.append(reject_answer(draw, text, reason, position))
            return
        reading.rows.append(row)
        asked = self._asked[draw.index]
        if position < len(asked):
            self._attributes[row.id] = asked[position]
            self._coverage.add_written(asked[position])

    def _write_request(self, label: str, turn: int, rows: Sequence[dict[str, str]]) -> str:
        shots = self._shots.choose(label, turn, NUM_SHOTS)
        return join_paragraphs(
            f"Task: {self._brief.description}" if self._brief.description else "",
            describe_profile(self._brief, self.profile, has_input=bool(self._shape.input)),
            describe_task(self._brief),
            describe_constraints(self._brief.constraints, turn),
            "Real examples:\n" + self._form.show([self._shape.show(shot) for shot in shots]),
            self._describe_order(label, turn, rows),
        )

    def _describe_order(self, label: str, turn: int, rows: Sequence[dict[str, str]]) -> str:
        kind = f' of the class "{self._brief.name_label(label)}"' if label else ""
        others = [self._brief.name_label(name) for name in self._brief.labels if name != label]
        contrast = f" They must not fit any of: {', '.join(others)}." if others else ""
        lines = "\n".join(
            f"{place}. {self._word_row(row, others, turn)}" for place, row in enumerate(rows, 1)
        )
        return (
            f"Write {len(rows)} new examples{kind}. Each must differ from the real ones and from "
            f"the others in subject, names, numbers and wording.{contrast} As far as the format "
            f"allows, they are:\n{lines}\n"
            f"{self._form.describe(len(rows), self._shape.keys)}"
        )

    def _word_row(self, row: dict[str, str], others: Sequence[str], turn: int) -> str:
        """A row's attributes; a hard case of classification looks like another class."""
        words = [
            f"{HARD}: at first sight it is {others[turn % len(others)]}"
            if value == HARD and others
            else value
            for value in row.values()
        ]
        return "; ".join(words)

    def _choose_rows_per_draw(self) -> int:
        """As many rows as fit the answer, three quarters full, were all as long as the 90 %."""
        sizes = sorted(
            estimate_tokens(self._form.show([self._shape.show(seed)])) + 4
            for seed in self._brief.seeds
        )
        size = sizes[round(0.9 * (len(sizes) - 1))] + self._estimate_rationale()
        return max(1, min(MAX_ROWS_PER_DRAW, int(0.75 * self._sampling.max_tokens / size)))

    def _estimate_rationale(self) -> int:
        """Tokens of a rationale where the seeds have none to go by."""
        is_unknown = self._shape.rationale and not any(s.rationale for s in self._brief.seeds)
        return USUAL_RATIONALE_TOKENS if is_unknown else 0
