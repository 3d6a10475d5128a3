"""Seeded synthesis: the teacher writes new examples from an analysis of the seeds.

The second stage of the teacher-student pipeline: diverse generation with controlled variation.
Every request shows a few seeds and asks for several rows as JSON; label, length, tone and the
constraint to stress change from draw to draw. In classification the label asked for is the
row's label; in other tasks the teacher writes input and output.
"""

from __future__ import annotations

import json
import random
from typing import Any

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.analysis import LengthRange, analyze_seeds
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest, estimate_tokens
from loam_runtime.synthesis.parsing import parse_objects
from loam_runtime.synthesis.strategies.base import (
    Draw,
    Reading,
    SamplingSettings,
    TaskBrief,
    check_row,
    make_row,
    pick,
    reject_answer,
)

MAX_ROWS_PER_DRAW = 5
NUM_SHOTS = 4
TONES = (
    "neutral and matter-of-fact",
    "formal",
    "casual",
    "terse",
    "detailed",
    "by a hurried writer",
    "by an expert",
    "by a beginner",
)
LENGTHS = ("shorter than usual", "of usual length", "longer than usual")
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

    def compose(self, index: int, label: str) -> Draw:
        """See `Strategy`."""
        rng = self._brief.make_random(index)
        content = self._write_request(rng, label)
        request = TeacherRequest(
            messages=(("system", SYSTEM), ("user", content)),
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
        else:
            reading.rows.append(
                make_row(draw, position, input_text if self._has_input else "", target)
            )

    def _write_request(self, rng: random.Random, label: str) -> str:
        shots = pick(rng, self._brief.list_seeds(label), NUM_SHOTS)
        parts = [
            f"Task: {self._brief.description}" if self._brief.description else "",
            self._describe_profile(),
            self._describe_constraints(rng),
            "Real examples:\n" + json.dumps([self._show(shot) for shot in shots], indent=1),
            self._describe_order(rng, label),
        ]
        return "\n\n".join(part for part in parts if part)

    def _show(self, seed: Example) -> dict[str, str]:
        if self._brief.is_classification:
            return {"input": seed.input}
        if not self._has_input:
            return {"output": seed.target}
        return {"input": seed.input, "output": seed.target}

    def _describe_profile(self) -> str:
        profile = self.profile
        lines = []
        if self._brief.is_classification:
            names = ", ".join(map(self._brief.name_label, self._brief.labels))
            lines.append(f"The classes are: {names}.")
        if self._has_input:
            lines.append(f"An input has {_describe_range(profile.input_words)}.")
            lines += [f"As a rule an input {trait}." for trait in profile.input_conventions]
        if not self._brief.is_classification:
            lines.append(f"An output has {_describe_range(profile.target_words)}.")
            lines += [f"As a rule an output {trait}." for trait in profile.target_conventions]
        return "\n".join(lines)

    def _describe_constraints(self, rng: random.Random) -> str:
        constraints = self._brief.constraints
        if not constraints:
            return ""
        lines = "\n".join(f"- {constraint}" for constraint in constraints)
        stressed = rng.choice(constraints) if len(constraints) > 1 else ""
        note = f"\nThis time mind above all: {stressed}" if stressed else ""
        return f"Every example must respect:\n{lines}{note}"

    def _describe_order(self, rng: random.Random, label: str) -> str:
        keys = {
            (True, True): '"input"',
            (False, True): '"input" and "output"',
            (False, False): '"output"',
        }[self._brief.is_classification, self._has_input]
        kind = f' of the class "{self._brief.name_label(label)}"' if label else ""
        others = [self._brief.name_label(name) for name in self._brief.labels if name != label]
        contrast = f" They must not fit any of: {', '.join(others)}." if others else ""
        return (
            f"Write {self.rows_per_draw} new examples{kind}, {rng.choice(LENGTHS)}, in a style "
            f"that is {rng.choice(TONES)} as far as the format allows. Each must differ from the "
            f"real ones and from the others in subject, names, numbers and wording.{contrast}\n"
            f"Answer with a JSON list of {self.rows_per_draw} objects with the "
            f"key{'s' if ' and ' in keys else ''} {keys}."
        )

    def _choose_rows_per_draw(self) -> int:
        """As many rows as fit the answer, three quarters full, were all as long as the 90 %."""
        sizes = sorted(
            estimate_tokens(json.dumps(self._show(seed))) + 4 for seed in self._brief.seeds
        )
        size = sizes[round(0.9 * (len(sizes) - 1))]
        return max(1, min(MAX_ROWS_PER_DRAW, int(0.75 * self._sampling.max_tokens / size)))


def _describe_range(words: LengthRange) -> str:
    if words.low == words.high:
        return f"about {words.middle} word{'s' if words.middle != 1 else ''}"
    return f"{words.low} to {words.high} words, {words.middle} in the middle"


def _as_text(value: Any) -> str:
    """A JSON value as a row's text: strings as they are, structures as JSON."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
