"""Judges preference pairs: is the answer that was written as the better one the better one?

The teacher is asked twice, with the answers in either order: judges favour a place (Zheng et al.,
2023, "Judging LLM-as-a-Judge"), and a verdict that changes with the order is a tie. A pair is kept
where both verdicts are for the chosen answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.filters.base import Ask, Verdict
from loam_runtime.synthesis.parsing import strip_thinking
from loam_runtime.synthesis.strategies.base import TaskBrief

TIE = "tie: the verdict changes with the order of the answers, or names none"
WRONG = "the refused answer was judged better"
UNANSWERED = "the judge did not answer"
_VERDICT = re.compile(r"\b([ABT])\b")


class PreferenceFilter:
    """Drops pairs that are none by the teacher's own verdict.

    A pair that it could not be asked about is dropped too: no other filter looks at both answers.

    Args:
        brief: the task.
        max_tokens: of a verdict; thinking teachers need more than its one letter.
    """

    name = "preference"

    def __init__(self, brief: TaskBrief, max_tokens: int) -> None:
        self._brief = brief
        self._max_tokens = max_tokens

    async def measure(self, ask: Ask) -> None:
        """See `AskedFilter`; the verdicts need no trust: only those that agree count."""

    async def judge(self, rows: Sequence[Example], ask: Ask) -> list[Verdict]:
        """See `AskedFilter`."""
        answers = await ask([request for row in rows for request in self.compose(row)])
        pairs = zip(answers[::2], answers[1::2], strict=True)
        return [Verdict(self.read(pair)) for pair in pairs]

    def describe(self) -> dict[str, object]:
        """See `AskedFilter`."""
        return {}

    def compose(self, row: Example) -> tuple[TeacherRequest, TeacherRequest]:
        """The two requests of a pair: chosen first, then chosen second."""
        return (
            self._compose_one(row.input, row.target, row.rejected),
            self._compose_one(row.input, row.rejected, row.target),
        )

    def read(self, answers: Sequence[TeacherAnswer | None]) -> str:
        """The reason to drop the pair, "" to keep it; answers in the order of `compose`."""
        if None in answers:
            return UNANSWERED
        verdicts = tuple(_read_verdict(answer.text) for answer in answers if answer)
        if verdicts == ("A", "B"):
            return ""
        return WRONG if verdicts == ("B", "A") else TIE

    def _compose_one(self, question: str, first: str, second: str) -> TeacherRequest:
        task = f"Task: {self._brief.description}\n\n" if self._brief.description else ""
        content = (
            f"{task}Which of two answers to the input is better?\n\nInput:\n{question}\n\n"
            f"Answer A:\n{first}\n\nAnswer B:\n{second}\n\n"
            "Write one letter and nothing else: A, B, or T if they are equally good."
        )
        return TeacherRequest(
            messages=(("user", content),), max_tokens=self._max_tokens, temperature=0.0
        )


def _read_verdict(text: str) -> str:
    """The first letter that stands alone; "" where there is none."""
    found = _VERDICT.search(strip_thinking(text))
    return found[1] if found else ""
