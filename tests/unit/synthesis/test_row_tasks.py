"""Questions about given rows: what is asked, what fits, and the one repair."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.tools.fault_teacher import Call, FaultTeacher, Reply, Script, serve_script

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.budget import BudgetLedger
from loam_runtime.synthesis.client import TeacherClient
from loam_runtime.synthesis.exchange import TeacherAnswer
from loam_runtime.synthesis.journal import Journal
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.row_tasks import UNANSWERED, RowAnswers, ask_about_rows
from loam_runtime.synthesis.strategies.base import SamplingSettings, TaskBrief
from loam_runtime.synthesis.strategies.explaining import SeedExplainer

ROWS = tuple(Example(str(i), f"the parcel {i} is late", "delivery") for i in range(12))
BRIEF = TaskBrief(ROWS, is_classification=True, label_names={"delivery": "late parcels"})
EXPLAINER = SeedExplainer(BRIEF, SamplingSettings(max_tokens=64))
GOOD = "<rationale>A parcel that is late.</rationale><answer>Late parcels</answer>"
BAD = "It is late, so delivery."


def explain(
    server: FaultTeacher, folder: Path, max_requests: int = 0, explainer: SeedExplainer = EXPLAINER
) -> RowAnswers:
    """One start of a run that asks about every row."""

    async def work() -> RowAnswers:
        teacher = OpenAICompatibleTeacher("m", server.base_url, "k", concurrency=1)
        try:
            async with Journal(folder, "run") as journal:
                budget = BudgetLedger(max_requests, spent=journal.spent)
                client = TeacherClient(teacher, journal, budget)
                return await ask_about_rows(client, explainer, explainer.list_rows())
        finally:
            await teacher.close()

    return asyncio.run(work())


def answer_row(number: int, first: str, then: str) -> Script:
    """One row's first answer and its second; every other row's answer is good."""

    def script(call: Call) -> Reply:
        if f"the parcel {number} is" not in call.question:
            return Reply(GOOD)
        is_second = len(call.body["messages"]) > 2 or call.attempt > 0
        return Reply(then if is_second else first)

    return script


def test_repair_shows_answer_and_fault(tmp_path: Path) -> None:
    """The second request holds the first question, the teacher's own words without its thinking,
    and what is wrong with them: without these it were a mere repetition."""
    with serve_script(answer_row(3, f"<think>hm</think>{BAD}", GOOD)) as server:
        made = explain(server, tmp_path)
        again = explain(server, tmp_path)
    assert len(made.texts) == 12
    assert (made.num_repairs, server.num_requests) == (1, 13)
    # What the rows cost is the same in a start that finds all of it in the journal.
    assert again.num_tokens == made.num_tokens == 13 * 60
    *before, shown, fault = next(body for body in server.bodies if len(body["messages"]) > 2)[
        "messages"
    ]
    assert [turn["role"] for turn in before] == ["system", "user"]
    assert "the parcel 3 is late" in before[1]["content"]
    assert shown == {"role": "assistant", "content": BAD}
    assert "no text between <rationale>" in fault["content"]


def test_equal_rows_are_one_question(tmp_path: Path) -> None:
    """A row that the seeds hold twice is asked about, and repaired, once; both have the answer."""
    rows = (*ROWS, Example("twin", ROWS[3].input, ROWS[3].target))
    brief = TaskBrief(rows, is_classification=True, label_names=BRIEF.label_names)
    explainer = SeedExplainer(brief, SamplingSettings(max_tokens=64))
    with serve_script(answer_row(3, BAD, GOOD)) as server:
        made = explain(server, tmp_path, explainer=explainer)
    assert len(made.texts) == 13
    assert (made.num_repairs, server.num_requests) == (1, 13)
    assert made.num_tokens == 13 * 60


@pytest.mark.parametrize("second", [BAD, ""])
def test_one_repair_at_most(tmp_path: Path, second: str) -> None:
    """A teacher that cannot is not paid for ever: after one repair the row is left as it is, and
    the report says why."""
    with serve_script(answer_row(3, BAD, second)) as server:
        made = explain(server, tmp_path)
    assert sorted(made.texts, key=int) == [str(i) for i in range(12) if i != 3]
    assert server.num_requests == 13
    assert sum(made.faults.values()) == 1


def test_an_empty_answer_is_drawn_anew(tmp_path: Path) -> None:
    """There is nothing to show; the same question, as a draw of its own, is asked once more."""
    with serve_script(answer_row(3, "<think>for ever", GOOD)) as server:
        made = explain(server, tmp_path)
    assert len(made.texts) == 12
    assert {len(body["messages"]) for body in server.bodies} == {2}


def test_repairs_are_journaled(tmp_path: Path) -> None:
    """The next start finds first answers and repairs alike, those that did not help too."""
    with serve_script(answer_row(3, BAD, BAD)) as server:
        first = explain(server, tmp_path)
        assert explain(server, tmp_path) == first
    assert server.num_requests == 13


@pytest.mark.parametrize("max_requests", [5, 12])
def test_budget_is_kept(tmp_path: Path, max_requests: int) -> None:
    """Not one request too many, the repair included; what was answered is used, and said."""
    with serve_script(answer_row(3, BAD, GOOD)) as server:
        made = explain(server, tmp_path, max_requests)
    assert server.num_requests == max_requests
    assert len(made.texts) == max_requests - 1
    assert f"{max_requests} of {max_requests} requests" in made.stopped
    assert made.faults[UNANSWERED] == 12 - max_requests
    assert sum(made.faults.values()) == 13 - max_requests


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD, ""),
        ("<rationale>It is late.</rationale><answer>delivery</answer>", ""),
        ("<rationale>It is late.</rationale><answer>billing</answer>", "not the right answer"),
        ("<rationale>It is late.</rationale>", "not the right answer"),
        ("<rationale>Delivery</rationale><answer>delivery</answer>", "explains nothing"),
        (f"<rationale>{'so ' * 401}</rationale><answer>delivery</answer>", "more than 400 words"),
        ("<answer>delivery</answer>", "no text between"),
    ],
)
def test_what_fits(text: str, words: str) -> None:
    """A rationale explains, and ends at the answer that the row has."""
    rationale, fault = EXPLAINER.read(ROWS[0], TeacherAnswer(text, 1, 1))
    assert bool(rationale) is not bool(words)
    assert words in fault


def test_cut_off_is_said() -> None:
    """Half a rationale is none, and the repair asks for a shorter one."""
    found, fault = EXPLAINER.read(ROWS[0], TeacherAnswer("<rationale>It is", 1, 1, False))
    assert (found, fault) == ("", "it was cut off; be shorter")


def test_long_answers_are_not_repeated() -> None:
    """A summary is seldom repeated to the letter: asking for that would cost rationales."""
    row = Example("1", "a document", "word " * 60)
    explainer = SeedExplainer(TaskBrief((row,), is_classification=False), SamplingSettings())
    content = explainer.compose(row).messages[1][1]
    assert "<answer>The right answer, repeated</answer>" not in content
    assert explainer.read(row, TeacherAnswer("<rationale>So.</rationale>", 1, 1)) == ("So.", "")


def test_only_rows_that_need_one() -> None:
    """A rationale that somebody wrote is kept, and plain text has nothing to explain."""
    rows = (ROWS[0], Example("a", "in", "x", rationale="mine"), Example("b", "", "text"))
    brief = TaskBrief(rows, is_classification=False)
    assert SeedExplainer(brief, SamplingSettings()).list_rows() == [ROWS[0]]
