"""Fluent wrong answers to seeds, asked of the teacher: bad examples that no rule can make.

What rules make bad (`corruptions`) is broken or belongs elsewhere. A wrong answer that reads well
is what a teacher gets wrong by itself, and what training suffers from most. The teacher sees the
right answer and keeps its length and style: else the classifier would learn who wrote an answer,
and all synthetic rows are written by the teacher. Labels need no asking: a real text with another
label is one.
"""

from __future__ import annotations

import random
from collections import Counter

from loam_runtime.data.examples import Example
from loam_runtime.data.normalize import normalize_text
from loam_runtime.errors import LoamError
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.filters.base import Ask
from loam_runtime.synthesis.strategies.base import SamplingSettings, TaskBrief, pick
from loam_runtime.synthesis.strategies.forms import TagForm
from loam_runtime.synthesis.strategies.wording import join_paragraphs

FAULT = "plausible wrong answer"
SYSTEM = (
    "You write wrong answers that look right. They teach a program to tell wrong answers from "
    "right ones."
)
_SENTENCE_END = ".!?。 "  # what an answer may end with and still be the same


class WrongAnswers:
    """Asks for wrong answers to some of the seeds, and reads them.

    Args:
        brief: the task; seeds without an input have no answer that could be wrong.
        sampling: of the teacher's tokens.
        most: seeds that are asked about.
    """

    def __init__(self, brief: TaskBrief, sampling: SamplingSettings, most: int) -> None:
        self._brief = brief
        self._sampling = sampling
        self._right: dict[str, set[str]] = {}
        for seed in brief.seeds:
            self._right.setdefault(normalize_text(seed.input), set()).add(_reduce(seed.target))
        rng = random.Random(f"{brief.random_seed}/wrong answers")
        self.rows = pick(rng, [seed for seed in brief.seeds if seed.input.strip()], most)
        self.texts: dict[str, str] = {}
        self._faults: Counter[str] = Counter()

    async def ask(self, ask: Ask) -> None:
        """Fill `texts`: wrong answers by the seed's id; a teacher that fails leaves them empty."""
        requests = [self.compose(row) for row in self.rows]
        unique = list(dict.fromkeys(requests))  # seeds may be alike
        try:
            answers = dict(zip(unique, await ask(unique), strict=True))
        except LoamError as error:
            # Whoever needs the teacher next hears of it; the classifier can do without.
            self._faults[error.message] = len(self.rows)
            return
        for row, request in zip(self.rows, requests, strict=True):
            text, fault = self.read(row, answers[request])
            if fault:
                self._faults[fault] += 1
            else:
                self.texts[row.id] = text

    def compose(self, row: Example) -> TeacherRequest:
        """The request about a seed."""
        content = join_paragraphs(
            f"Task: {self._brief.description}" if self._brief.description else "",
            "\n".join(f"{turn.role}: {turn.content}" for turn in row.context),
            f"<input>{row.input}</input>\n<answer>{row.target}</answer>",
            "This answer is right. Write one that is wrong, and that a reader in a hurry would "
            "take for right: of the same length, form and style, but with another fact, name, "
            "number, condition or conclusion, so that it is no answer to this input. Do not say "
            "that it is wrong. Write in this form, and nothing else:\n"
            "<answer>The wrong answer here</answer>",
        )
        return self._sampling.compose(("system", SYSTEM), ("user", content))

    def read(self, row: Example, answer: TeacherAnswer | None) -> tuple[str, str]:
        """The wrong answer, or "" and why there is none."""
        if answer is None:
            return "", "no answer, or no budget for one"
        if not answer.is_complete:
            return "", "cut off"
        found = TagForm().parse(answer.text, is_complete=True)
        text = found[0].get("answer", "") if found else ""
        if not text:
            return "", "not between <answer> and </answer>"
        if _reduce(text) in self._right[normalize_text(row.input)]:
            return "", "the right answer again"
        return text, ""

    def describe(self) -> dict[str, object]:
        """How many were asked for and came, and why the others did not."""
        told: dict[str, object] = {"asked": len(self.rows), "used": len(self.texts)}
        if self._faults:
            reasons = "; ".join(f"{it} ({count})" for it, count in self._faults.most_common(3))
            told["note"] = (
                f"Of {len(self.rows)} plausible wrong answers asked of the teacher, the quality "
                f"classifier learnt from {len(self.texts)}. The others: {reasons}."
            )
        return told


def _reduce(text: str) -> str:
    return normalize_text(text).rstrip(_SENTENCE_END)
