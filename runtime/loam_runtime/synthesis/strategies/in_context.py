"""In-context synthesis: class by class, the model continues a list of that class's examples.

After "Enhancing Low-Resource LLMs Classification with PEFT and Synthetic Data"
(arXiv:2404.02422): temperature 1.0, top_k 50, a few real examples per class; malformed and
repeated generations are removed here, label-inconsistent ones by `filters/consistency.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from loam_runtime.data.examples import Example
from loam_runtime.data.normalize import collapse_spaces
from loam_runtime.errors import InputError
from loam_runtime.synthesis.exchange import TeacherAnswer
from loam_runtime.synthesis.parsing import parse_lines
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

MAX_SHOTS = 8
CHAT_REQUEST = (
    "Continue this list with one more example of the same class. Make it differ from those "
    "shown. Write the example alone, on one line."
)


class InContextStrategy:
    """Continues lists of examples of one class. Inputs are written on one line.

    Args:
        brief: the task; must be classification.
        sampling: temperature 1.0 and top_k 50 as in the paper, by default.
        is_chat: the teacher follows instructions; a base model is given the list alone.

    Raises:
        InputError: the task is not classification.
    """

    rows_per_draw = 1

    def __init__(self, brief: TaskBrief, sampling: SamplingSettings, *, is_chat: bool) -> None:
        if not brief.is_classification:
            raise InputError(
                "synthesis.strategy inContext writes examples class by class, and data.task is "
                "not classification.",
                remedy="Use the strategy seeded.",
            )
        self._brief = brief
        self._sampling = sampling
        self._is_chat = is_chat
        self._longest_seed_words = max(len(seed.input.split()) for seed in brief.seeds)

    def compose(self, index: int, label: str, turn: int) -> Draw:
        """See `Strategy`. Every draw shows the class's seeds in another order."""
        shots = pick(self._brief.make_random(index), self._brief.list_seeds(label), MAX_SHOTS)
        prompt = self._write_list(label, shots)
        if self._is_chat:
            prompt = f"{CHAT_REQUEST}\n\n{prompt}"
        request = self._sampling.compose(
            ("user", prompt),
            # A chat model may begin with a line end; a base model's line is the example.
            stop=() if self._is_chat else ("\n",),
            draw=index,
        )
        return Draw(index, label, request)

    def read(self, draw: Draw, answer: TeacherAnswer) -> Reading:
        """See `Strategy`."""
        if not answer.text.strip():
            return Reading(rejected=[reject_answer(draw, answer.text, "empty answer")])
        items = parse_lines(answer.text, is_complete=answer.is_complete)
        if not items:
            reason = "no list item" if answer.is_complete else "cut off at max_tokens"
            return Reading(rejected=[reject_answer(draw, answer.text, reason)])
        reading = Reading()
        for position, item in enumerate(items):
            reason = check_row(item, draw.label, self._longest_seed_words)
            if reason:
                reading.rejected.append(reject_answer(draw, item, reason, position))
            else:
                reading.rows.append(make_row(draw, position, item, draw.label))
        return reading

    def describe(self, kept: Sequence[Example]) -> dict[str, object]:
        """See `Strategy`."""
        return {}

    def _write_list(self, label: str, shots: list[Example]) -> str:
        """The list, ending where the model goes on: after a bullet, without a space."""
        paragraphs = [
            *([self._brief.description] if self._brief.description else []),
            *self._brief.constraints,
            f"Examples of the class {self._brief.name_label(label)}:",
        ]
        items = [f"- {collapse_spaces(shot.input)}" for shot in shots]
        return "\n".join([*paragraphs, "", *items, "-"])
