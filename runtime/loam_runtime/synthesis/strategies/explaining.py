"""Has the teacher explain the answers of real rows, so that they train as the synthetic ones do.

In Distilling Step-by-Step (Hsieh et al., 2023; "An efficient strategy for fine-tuning large
language models") every training input has a rationale. Of a real row the answer is known: the
teacher is given it, and a short one it repeats behind its reasoning, so that reasoning which ended
elsewhere is found out.
"""

from __future__ import annotations

from loam_runtime.data.examples import Example
from loam_runtime.data.normalize import normalize_text
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.strategies.base import SamplingSettings, TaskBrief
from loam_runtime.synthesis.strategies.forms import TagForm
from loam_runtime.synthesis.strategies.shapes import MAX_RATIONALE_WORDS
from loam_runtime.synthesis.strategies.wording import join_paragraphs

# A long answer is seldom repeated to the letter, and that says nothing of the reasoning.
MAX_REPEATED_WORDS = 30

SYSTEM = (
    "You are an expert at the task below. You are given an input and its right answer, and you "
    "explain step by step how the answer follows from the input (rationale)."
)


class SeedExplainer:
    """Asks for the rationale of a row whose answer is known.

    Args:
        brief: the task.
        sampling: of the teacher's tokens.
    """

    def __init__(self, brief: TaskBrief, sampling: SamplingSettings) -> None:
        self._brief = brief
        self._sampling = sampling

    def list_rows(self) -> list[Example]:
        """The seeds that need one: those with an input and without a rationale."""
        return [seed for seed in self._brief.seeds if seed.input and not seed.rationale.strip()]

    def compose(self, row: Example) -> TeacherRequest:
        """See `RowTask`."""
        names = ", ".join(map(self._brief.name_label, self._brief.labels))
        answer = self._brief.name_label(row.target)
        form = "<rationale>Step-by-step explanation here</rationale>"
        if self._is_repeated(row):
            form += "\n<answer>The right answer, repeated</answer>"
        content = join_paragraphs(
            f"Task: {self._brief.description}" if self._brief.description else "",
            f"The classes are: {names}." if self._brief.is_classification else "",
            "\n".join(f"{turn.role}: {turn.content}" for turn in row.context),
            f"<input>{row.input}</input>\n<answer>{answer}</answer>",
            "Explain how this answer follows from this input: what somebody would think who does "
            f"not know the answer yet. Write in this form, and nothing else:\n{form}",
        )
        return self._sampling.compose(("system", SYSTEM), ("user", content))

    def read(self, row: Example, answer: TeacherAnswer) -> tuple[str, str]:
        """See `RowTask`: the rationale."""
        if not answer.is_complete:
            return "", "it was cut off; be shorter"
        found = TagForm().parse(answer.text, is_complete=True)
        rationale = found[0].get("rationale", "") if found else ""
        if not rationale:
            return "", "there is no text between <rationale> and </rationale>"
        if len(rationale.split()) > MAX_RATIONALE_WORDS:
            return "", f"the rationale has more than {MAX_RATIONALE_WORDS} words"
        names = {normalize_text(row.target), normalize_text(self._brief.name_label(row.target))}
        if normalize_text(rationale) in names:
            return "", "the rationale repeats the answer and explains nothing"
        if self._is_repeated(row) and normalize_text(found[0].get("answer", "")) not in names:
            return "", "the text between <answer> and </answer> is not the right answer given"
        return rationale, ""

    def _is_repeated(self, row: Example) -> bool:
        return len(row.target.split()) <= MAX_REPEATED_WORDS
