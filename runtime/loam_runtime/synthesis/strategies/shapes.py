"""What a row of each task is made of: the keys a teacher fills, and the row they make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from loam_runtime.data.examples import Example
from loam_runtime.data.normalize import has_half_pair, normalize_text
from loam_runtime.synthesis.strategies.base import HALF_PAIR, Draw, TaskBrief, check_row, make_row

MAX_RATIONALE_WORDS = 400


@dataclass(frozen=True, slots=True)
class RowShape:
    """The keys of a row.

    Attributes:
        brief: the task.
        input, target, rejected, rationale: the key that holds each part of a row, "" for none.
            Of classification without a rationale, the target is the label asked for.
    """

    brief: TaskBrief
    input: str = ""
    target: str = ""
    rejected: str = ""
    rationale: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """Those that there are, in the order in which they are written."""
        ordered = (self.input, self.rationale, self.target, self.rejected)
        return tuple(key for key in ordered if key)

    def show(self, seed: Example) -> dict[str, str]:
        """A real example; a part that it lacks is left out."""
        target = self.brief.name_label(seed.target) if self.rationale else seed.target
        parts = {
            self.input: seed.input,
            self.rationale: seed.rationale,
            self.target: target,
            self.rejected: seed.rejected,
        }
        return {key: parts[key] for key in self.keys if parts[key]}

    def build(
        self, draw: Draw, position: int, values: Mapping[str, Any], longest_seed_words: int
    ) -> tuple[Example | None, str]:
        """The row of what was written, or the reason why there is none."""
        input_text, written = self._get(values, self.input), self._get(values, self.target)
        target = draw.label if self.brief.is_classification else written
        rejected, rationale = self._get(values, self.rejected), self._get(values, self.rationale)
        reason = check_row(input_text if self.input else target, target, longest_seed_words)
        reason = reason or self._check_answer(draw, written) or self._check_pair(target, rejected)
        reason = reason or self._check_rationale(rationale)
        if not reason and has_half_pair(rejected + rationale):
            reason = HALF_PAIR
        if reason:
            return None, reason
        row = make_row(draw, position, input_text, target)
        return replace(row, rejected=rejected, rationale=rationale), ""

    def _get(self, values: Mapping[str, Any], key: str) -> str:
        return _as_text(values.get(key)) if key else ""

    def _check_answer(self, draw: Draw, written: str) -> str:
        if not self.brief.is_classification or not self.target:
            return ""
        names = (draw.label, self.brief.name_label(draw.label))
        is_right = normalize_text(written) in map(normalize_text, names)
        return "" if is_right else "the answer is not the class asked for"

    def _check_pair(self, chosen: str, rejected: str) -> str:
        if not self.rejected:
            return ""
        if not rejected:
            return "empty rejected answer"
        is_same = normalize_text(chosen) == normalize_text(rejected)
        return "chosen and rejected are the same" if is_same else ""

    def _check_rationale(self, rationale: str) -> str:
        if not self.rationale:
            return ""
        if not rationale:
            return "empty rationale"
        return "rationale far too long" if len(rationale.split()) > MAX_RATIONALE_WORDS else ""


def choose_shape(brief: TaskBrief, *, has_rationale: bool) -> RowShape:
    """The shape of a task's rows, by what the seeds have."""
    has_input = any(seed.input for seed in brief.seeds)
    if has_rationale:
        return RowShape(brief, "input", "answer", rationale="rationale")
    if brief.is_classification:
        return RowShape(brief, "input")
    if brief.has_pairs:
        return RowShape(brief, "input", "chosen", rejected="rejected")
    return RowShape(brief, "input" if has_input else "", "output")


def _as_text(value: Any) -> str:
    """A JSON value as a row's text: strings as they are, structures as JSON."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
