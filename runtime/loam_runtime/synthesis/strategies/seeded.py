"""Seeded synthesis: the teacher writes new examples from an analysis of the seeds.

The second stage of the teacher-student pipeline: diverse generation with controlled variation.
Every request shows a few seeds, which rotate, and asks for several rows as JSON; for each row a
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
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest, estimate_tokens
from loam_runtime.synthesis.parsing import parse_objects
from loam_runtime.synthesis.strategies.attributes import HARD, build_attributes
from loam_runtime.synthesis.strategies.base import (
    Draw,
    Reading,
    SamplingSettings,
    TaskBrief,
    check_row,
    make_row,
    reject_answer,
)
from loam_runtime.synthesis.strategies.shots import ShotRotation
from loam_runtime.synthesis.strategies.wording import (
    describe_constraints,
    describe_profile,
    join_paragraphs,
)
from loam_runtime.synthesis.variation import Coverage, VariationPlan

MAX_ROWS_PER_DRAW = 5
NUM_SHOTS = 4
SYSTEM = (
    "You write training data for a machine learning model. You answer with JSON alone: no "
    "comments, no code fences, nothing before or after it."
)


class SeededStrategy:
    """Asks for variations of the seeds, any task.

    Args:
        brief: the task.
        sampling: `max_tokens` also bounds how many rows one request asks for.
    """

    def __init__(self, brief: TaskBrief, sampling: SamplingSettings) -> None:
        self._brief = brief
        self._sampling = sampling
        self.profile = analyze_seeds(brief.seeds, is_classification=brief.is_classification)
        self._longest_seed_words = max(
            len((seed.input or seed.target).split()) for seed in brief.seeds
        )
        # Plain text has no input: the whole text is the target.
        self._has_input = any(seed.input for seed in brief.seeds)
        self.rows_per_draw = self._choose_rows_per_draw()
        attributes = build_attributes(self.profile, has_input=self._has_input)
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
        request = TeacherRequest(
            messages=(("system", SYSTEM), ("user", self._write_request(label, turn, rows))),
            max_tokens=self._sampling.max_tokens,
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
            top_k=self._sampling.top_k,
            draw=index,
        )
        return Draw(index, label, request)

    def read(self, draw: Draw, answer: TeacherAnswer) -> Reading:
        """See `Strategy`."""
        if not answer.text.strip():
            return Reading(rejected=[reject_answer(draw, answer.text, "empty answer")])
        objects = parse_objects(answer.text, is_complete=answer.is_complete)
        if not objects:
            reason = "no JSON object" if answer.is_complete else "cut off at max_tokens"
            return Reading(rejected=[reject_answer(draw, answer.text, reason)])
        reading = Reading()
        for position, value in enumerate(objects):
            self._read_object(draw, position, value, reading)
        return reading

    def describe(self, kept: Sequence[Example]) -> dict[str, object]:
        """The analysis of the seeds, and how far the plan of variation was carried out."""
        known = [(self._attributes.get(row.id, {}), row.input or row.target) for row in kept]
        lengths = [(attributes, len(text.split())) for attributes, text in known]
        return {
            "analysis": self.profile.describe(),
            "variation": self._plan.describe(self._coverage, lengths),
        }

    def _read_object(
        self, draw: Draw, position: int, value: dict[str, Any], reading: Reading
    ) -> None:
        input_text, target = _as_text(value.get("input")), _as_text(value.get("output"))
        if self._brief.is_classification:
            target = draw.label
        checked = input_text if self._has_input else target
        reason = check_row(checked, target, self._longest_seed_words)
        if reason:
            reading.rejected.append(reject_answer(draw, json.dumps(value), reason, position))
            return
        row = make_row(draw, position, input_text if self._has_input else "", target)
        reading.rows.append(row)
        asked = self._asked[draw.index]
        if position < len(asked):
            self._attributes[row.id] = asked[position]
            self._coverage.add_written(asked[position])

    def _write_request(self, label: str, turn: int, rows: Sequence[dict[str, str]]) -> str:
        shots = self._shots.choose(label, turn, NUM_SHOTS)
        return join_paragraphs(
            f"Task: {self._brief.description}" if self._brief.description else "",
            describe_profile(self._brief, self.profile, has_input=self._has_input),
            describe_constraints(self._brief.constraints, turn),
            "Real examples:\n" + json.dumps([self._show(shot) for shot in shots], indent=1),
            self._describe_order(label, turn, rows),
        )

    def _show(self, seed: Example) -> dict[str, str]:
        if self._brief.is_classification:
            return {"input": seed.input}
        if not self._has_input:
            return {"output": seed.target}
        return {"input": seed.input, "output": seed.target}

    def _describe_order(self, label: str, turn: int, rows: Sequence[dict[str, str]]) -> str:
        keys = list(self._show(self._brief.seeds[0]))
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
            f"Answer with a JSON list of {len(rows)} objects with the "
            f"key{'s' if len(keys) > 1 else ''} {' and '.join(map(json.dumps, keys))}."
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
            estimate_tokens(json.dumps(self._show(seed))) + 4 for seed in self._brief.seeds
        )
        size = sizes[round(0.9 * (len(sizes) - 1))]
        return max(1, min(MAX_ROWS_PER_DRAW, int(0.75 * self._sampling.max_tokens / size)))


def _as_text(value: Any) -> str:
    """A JSON value as a row's text: strings as they are, structures as JSON."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
