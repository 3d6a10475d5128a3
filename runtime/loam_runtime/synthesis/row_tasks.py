"""Questions to a teacher about given rows, each with at most one repair.

An answer that does not fit goes back to the teacher once, with what is wrong with it. That pays
here and nowhere else: the row is given, so nothing can take its place, and a fault of form or of
reasoning that comes from the row comes again with every new draw. Where the teacher writes rows
freely no repair is asked for: it would cost the prompt, the bad answer and a new answer, and a new
draw costs the prompt and a new answer, brings other rows, and is needed only if too few are kept;
what is whole in a bad answer is read in any case, and an empty one gives nothing to repair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from loam_runtime.data.examples import Example
from loam_runtime.errors import BudgetError
from loam_runtime.synthesis.client import TeacherClient
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.parsing import strip_thinking

UNANSWERED = "no answer"
MAX_SHOWN_CHARS = 4000  # of the answer that a repair shows


class RowTask(Protocol):
    """What is asked about a row, and how the answer is read."""

    def compose(self, row: Example) -> TeacherRequest:
        """The request about a row."""

    def read(self, row: Example, answer: TeacherAnswer) -> tuple[str, str]:
        """What was answered, or "" and what is wrong, in words for the teacher."""


@dataclass(slots=True)
class RowAnswers:
    """What came of the questions.

    Attributes:
        num_rows: rows asked about.
        texts: what was answered, by the row's id; rows without a fitting answer are missing.
        num_repairs: second requests.
        num_tokens: of prompts and answers, also of those that an earlier start paid for.
        faults: of the rows that are missing, with how many rows have each.
        stopped: why not every row was asked about, or "".
    """

    num_rows: int
    texts: dict[str, str] = field(default_factory=dict)
    num_repairs: int = 0
    num_tokens: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    stopped: str = ""

    def describe(self) -> dict[str, object]:
        """The counts, for the report."""
        return {
            "rows": self.num_rows,
            "answered": len(self.texts),
            "repairs": self.num_repairs,
            "tokens": self.num_tokens,
            "faults": dict(self.faults.most_common()),
            "stopped": self.stopped,
        }


async def ask_about_rows(
    client: TeacherClient, task: RowTask, rows: Sequence[Example]
) -> RowAnswers:
    """Ask about every row, and once more where the answer does not fit.

    A spent budget leaves the other rows unanswered, as `stopped` says.

    Raises:
        CredentialsError, TeacherError: the teacher refuses, or is down.
    """
    result = RowAnswers(len(rows))
    requests = {row: task.compose(row) for row in rows}
    misfits = await _ask(client, task, requests, result)
    repairs = {
        row: compose_repair(requests[row], answer, fault)
        for row, (answer, fault) in misfits.items()
        if answer is not None and not result.stopped
    }
    result.num_repairs = len(set(repairs.values()))
    again = await _ask(client, task, repairs, result)
    left = misfits | {row: (answer, fault) for row, (answer, fault) in again.items() if answer}
    result.faults.update(fault for row, (_, fault) in left.items() if row.id not in result.texts)
    return result


def compose_repair(request: TeacherRequest, answer: TeacherAnswer, fault: str) -> TeacherRequest:
    """The request that shows the teacher its answer and the fault; of an empty one, a new draw."""
    shown = strip_thinking(answer.text)[:MAX_SHOWN_CHARS]
    if not shown:
        return replace(request, draw=request.draw + 1)
    words = f"That cannot be used: {fault}. Answer again, in full and in the form asked for."
    return replace(request, messages=(*request.messages, ("assistant", shown), ("user", words)))


async def _ask(
    client: TeacherClient,
    task: RowTask,
    requests: Mapping[Example, TeacherRequest],
    result: RowAnswers,
) -> dict[Example, tuple[TeacherAnswer | None, str]]:
    """Fill `result`; returns the rows that have no fitting answer, with it and its fault."""
    answers: dict[TeacherRequest, TeacherAnswer] = {}
    try:
        await client.ask_many(list(requests.values()), answers.__setitem__)
    except BudgetError as error:
        result.stopped = str(error)
    result.num_tokens += sum(answer.num_tokens for answer in answers.values())
    misfits: dict[Example, tuple[TeacherAnswer | None, str]] = {}
    for row, request in requests.items():
        answer = answers.get(request)
        text, fault = task.read(row, answer) if answer is not None else ("", UNANSWERED)
        if fault:
            misfits[row] = (answer, fault)
        else:
            result.texts[row.id] = text
    return misfits
