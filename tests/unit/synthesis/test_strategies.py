"""What is asked, and what is read from the answers."""

from __future__ import annotations

import json

import pytest

from loam_runtime.data.examples import Example
from loam_runtime.errors import InputError
from loam_runtime.synthesis.analysis.seeds import analyze_seeds
from loam_runtime.synthesis.exchange import TeacherAnswer
from loam_runtime.synthesis.strategies.base import SamplingSettings, TaskBrief
from loam_runtime.synthesis.strategies.in_context import InContextStrategy
from loam_runtime.synthesis.strategies.rationale import build_rationale_strategy
from loam_runtime.synthesis.strategies.registry import build_strategy
from loam_runtime.synthesis.strategies.seeded import SeededStrategy

SAMPLING = SamplingSettings(max_tokens=512)


def answer(text: str, *, is_complete: bool = True) -> TeacherAnswer:
    return TeacherAnswer(text, 1, 1, is_complete)


def make_rows(count: int, *, has_input: bool = True) -> tuple[Example, ...]:
    return tuple(
        Example(str(i), f"What is {i} plus {i}?" if has_input else "", f"It is {2 * i}.")
        for i in range(count)
    )


class TestInContext:
    def test_shows_one_class_alone(self, brief: TaskBrief) -> None:
        """A list that mixes classes would give the continuation no label."""
        strategy = InContextStrategy(brief, SAMPLING, is_chat=False)
        prompt = strategy.compose(0, "billing", 0).request.messages[0][1]
        assert prompt.endswith("\n-")
        assert "courier" not in prompt
        assert prompt.count("\n- ") == 4

    def test_sampling_of_the_paper(self, brief: TaskBrief) -> None:
        """Temperature 1.0 and top_k 50 reach the teacher; a base model stops at the line end."""
        request = InContextStrategy(brief, SAMPLING, is_chat=False).compose(0, "billing", 0).request
        assert (request.temperature, request.top_k, request.stop) == (1.0, 50, ("\n",))

    def test_draws_differ_and_repeat(self, brief: TaskBrief) -> None:
        """Draws show the seeds in different orders, each the same in every start: a restart must
        find its own answers in the journal."""
        first = InContextStrategy(brief, SAMPLING, is_chat=False)
        second = InContextStrategy(brief, SAMPLING, is_chat=False)
        draws = [first.compose(i, "billing", i) for i in range(20)]
        assert draws == [second.compose(i, "billing", i) for i in range(20)]
        assert len({draw.request.messages for draw in draws}) > 5

    def test_rows_carry_the_label_asked_for(self, brief: TaskBrief) -> None:
        """The class of the list is the row's label, and its origin is told."""
        strategy = InContextStrategy(brief, SAMPLING, is_chat=False)
        reading = strategy.read(strategy.compose(3, "billing", 3), answer(" the bill is wrong"))
        (row,) = reading.rows
        assert (row.input, row.target, row.origin) == ("the bill is wrong", "billing", "synthetic")
        assert row.source == "draw 3, row 1"

    @pytest.mark.parametrize("text", ["", " \n ", "...", "- ", "word " * 500])
    def test_malformed(self, brief: TaskBrief, text: str) -> None:
        """What is no example is rejected with a reason, never passed on."""
        strategy = InContextStrategy(brief, SAMPLING, is_chat=False)
        reading = strategy.read(strategy.compose(0, "billing", 0), answer(text))
        assert not reading.rows
        assert reading.rejected[0].reason

    def test_cut_off(self, brief: TaskBrief) -> None:
        """Half a sentence is not an example."""
        strategy = InContextStrategy(brief, SAMPLING, is_chat=False)
        reading = strategy.read(
            strategy.compose(0, "billing", 0), answer("the bill is", is_complete=False)
        )
        assert [item.reason for item in reading.rejected] == ["cut off at max_tokens"]

    def test_classification_only(self) -> None:
        """Other tasks have no classes to continue; the message names the other strategy."""
        brief = TaskBrief(seeds=make_rows(4), is_classification=False)
        with pytest.raises(InputError, match="seeded"):
            InContextStrategy(brief, SAMPLING, is_chat=False)


class TestSeeded:
    def test_label_asked_for_wins(self, brief: TaskBrief) -> None:
        """In classification the teacher's own idea of the label is not taken."""
        strategy = SeededStrategy(brief, SAMPLING)
        text = json.dumps([{"input": "I paid too much", "output": "delivery"}])
        reading = strategy.read(strategy.compose(0, "billing", 0), answer(text))
        assert [row.target for row in reading.rows] == ["billing"]

    def test_teacher_writes_both_sides(self) -> None:
        """Elsewhere input and output come from the teacher; structures become JSON text."""
        strategy = SeededStrategy(TaskBrief(make_rows(4), is_classification=False), SAMPLING)
        text = json.dumps([{"input": "What is 9 plus 9?", "output": {"sum": 18}}])
        (row,) = strategy.read(strategy.compose(0, "", 0), answer(text)).rows
        assert (row.input, row.target) == ("What is 9 plus 9?", '{"sum": 18}')

    def test_bad_rows_leave_good_ones(self) -> None:
        """One bad row of an answer does not cost the others, and says what is wrong."""
        strategy = SeededStrategy(TaskBrief(make_rows(4), is_classification=False), SAMPLING)
        text = json.dumps(
            [{"input": "good one", "output": "1"}, {"input": "no output"}, {"output": "no input"}]
        )
        reading = strategy.read(strategy.compose(0, "", 0), answer(text))
        assert len(reading.rows) == 1
        assert [item.reason for item in reading.rejected] == ["empty output", "empty input"]

    def test_plain_text(self) -> None:
        """Without inputs, the whole text is asked for and kept as the target."""
        strategy = SeededStrategy(
            TaskBrief(make_rows(4, has_input=False), is_classification=False), SAMPLING
        )
        draw = strategy.compose(0, "", 0)
        assert '"output"' in draw.request.messages[1][1]
        (row,) = strategy.read(draw, answer('[{"output": "It is twelve."}]')).rows
        assert (row.input, row.target) == ("", "It is twelve.")

    def test_requests_vary_under_control(self, brief: TaskBrief) -> None:
        """Length, tone and the constraint to stress change; constraints are in every request."""
        brief = TaskBrief(
            brief.seeds, is_classification=True, constraints=("Be polite", "Name a month")
        )
        strategy = SeededStrategy(brief, SAMPLING)
        texts = [strategy.compose(i, "billing", i).request.messages[1][1] for i in range(30)]
        assert len(set(texts)) > 25
        assert all("- Be polite\n- Name a month" in text for text in texts)
        assert {"above all: Be polite", "above all: Name a month"} <= {
            text[text.index("above all") :].split("\n")[0] for text in texts
        }

    def test_every_row_has_its_own_attributes(self, brief: TaskBrief) -> None:
        """Each row of a request is asked to be something else, and the report tells what came of
        it, also where the teacher left rows out."""
        strategy = SeededStrategy(brief, SamplingSettings(max_tokens=1024))
        draw = strategy.compose(0, "billing", 0)
        text = draw.request.messages[1][1]
        lines = [line[3:] for line in text.split("\n") if line[1:3] == ". "]
        assert len(set(lines)) == strategy.rows_per_draw == 5
        rows = strategy.read(draw, answer('[{"input": "I paid twice"}, {"input": "no"}]')).rows
        styles = strategy.describe(rows[1:])["variation"]["style"]
        assert sum(value["asked"] for value in styles.values()) == 5
        assert sum(value["written"] for value in styles.values()) == 2
        assert [name for name, value in styles.items() if value["kept"]] == [
            lines[1].split("; ")[1]
        ]

    def test_rows_per_request_fit_the_answer(self) -> None:
        """Long rows are asked for one at a time: a list cut off at max_tokens is paid waste."""
        long_rows = tuple(Example(str(i), "word " * 300, "answer") for i in range(4))
        brief = TaskBrief(long_rows, is_classification=False)
        assert SeededStrategy(brief, SamplingSettings(max_tokens=256)).rows_per_draw == 1
        short = TaskBrief(make_rows(4), is_classification=False)
        assert SeededStrategy(short, SamplingSettings(max_tokens=1024)).rows_per_draw == 5


def test_languages_by_share() -> None:
    """For cross-lingual transfer each row is asked for in a language, by share; one alone counts
    too."""
    seeds = make_rows(4)
    brief = TaskBrief(seeds, is_classification=False, languages={"de": 0.75, "fr": 0.25})
    strategy = SeededStrategy(brief, SamplingSettings(max_tokens=1024))
    texts = "".join(strategy.compose(i, "", i).request.messages[1][1] for i in range(20))
    assert (texts.count("in German"), texts.count("in French")) == (75, 25)
    alone = TaskBrief(seeds, is_classification=False, languages={"sw": 1.0})
    assert "in Swahili" in SeededStrategy(alone, SAMPLING).compose(0, "", 0).request.messages[1][1]


class TestPairs:
    """Preference pairs."""

    brief = TaskBrief(
        tuple(
            Example(str(i), f"Explain {i}", f"Good, {i}", rejected=f"Bad, {i}") for i in range(4)
        ),
        is_classification=False,
    )

    def test_both_answers(self) -> None:
        """A pair keeps its refused answer: without it, it would be trained on as a plain row."""
        strategy = SeededStrategy(self.brief, SAMPLING)
        draw = strategy.compose(0, "", 0)
        assert '"input", "chosen" and "rejected"' in draw.request.messages[1][1]
        text = json.dumps([{"input": "Explain 9", "chosen": "Good", "rejected": "Poor"}])
        (row,) = strategy.read(draw, answer(text)).rows
        assert (row.input, row.target, row.rejected) == ("Explain 9", "Good", "Poor")

    @pytest.mark.parametrize(
        ("rejected", "reason"),
        [("", "empty rejected answer"), ("GOOD ", "chosen and rejected are the same")],
    )
    def test_no_pair(self, rejected: str, reason: str) -> None:
        """One answer, or the same twice, teaches no preference."""
        strategy = SeededStrategy(self.brief, SAMPLING)
        text = json.dumps([{"input": "Explain 9", "chosen": "Good", "rejected": rejected}])
        reading = strategy.read(strategy.compose(0, "", 0), answer(text))
        assert [item.reason for item in reading.rejected] == [reason]


class TestRationale:
    """Reasoning and answer in tags."""

    def test_tags_of_the_paper(self, brief: TaskBrief) -> None:
        """The teacher is asked for rationale and answer, in this order and in the paper's tags."""
        system, user = (
            build_rationale_strategy(brief, SAMPLING).compose(0, "billing", 0).request.messages
        )
        assert "step-by-step reasoning (rationale)" in system[1]
        assert "<rationale>Step-by-step explanation here</rationale>\n<answer>Final" in user[1]
        assert "<answer>billing</answer>" in user[1]

    def test_rows_carry_the_rationale(self) -> None:
        """Reasoning holds quotes, braces and line ends; nothing of it is lost."""
        strategy = build_rationale_strategy(
            TaskBrief(make_rows(4), is_classification=False), SAMPLING
        )
        text = (
            "<think>hm</think>Here:\n<example>\n<input>What is 9?</input>\n"
            '<rationale>First {"a": 1},'
            '\nthen <b>.</rationale>\n<answer>SELECT "x"</answer>\n</example>'
        )
        (row,) = strategy.read(strategy.compose(0, "", 0), answer(text)).rows
        assert row.input == "What is 9?"
        assert row.rationale == 'First {"a": 1},\nthen <b>.'
        assert row.target == 'SELECT "x"'

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("<input>a b</input><answer>billing</answer>", "empty rationale"),
            (
                "<input>a b</input><rationale>so</rationale><answer>delivery</answer>",
                "the answer is not the class asked for",
            ),
            (
                "<input>a b</input><rationale>so</rationale>",
                "the answer is not the class asked for",
            ),
            ("I cannot.", "no tagged example"),
        ],
    )
    def test_unusable(self, brief: TaskBrief, text: str, reason: str) -> None:
        """A teacher whose own reasoning ends at another label has written a wrong row."""
        strategy = build_rationale_strategy(brief, SAMPLING)
        reading = strategy.read(strategy.compose(0, "billing", 0), answer(text))
        assert [item.reason for item in reading.rejected] == [reason]

    def test_cut_off_loses_the_last_alone(self) -> None:
        """Half a rationale ends in no answer; the examples before it are whole."""
        strategy = build_rationale_strategy(
            TaskBrief(make_rows(4), is_classification=False), SAMPLING
        )
        whole = "<example><input>a b</input><rationale>r</rationale><answer>c</answer></example>"
        text = f"{whole}<example><input>d e</input><rationale>x</rationale><answer>f</answer>"
        reading = strategy.read(strategy.compose(0, "", 0), answer(text, is_complete=False))
        assert [row.input for row in reading.rows] == ["a b"]
        assert not reading.rejected

    @pytest.mark.parametrize(
        "seed", [Example("1", "", "text"), Example("1", "a", "b", rejected="c")]
    )
    def test_nothing_to_explain(self, seed: Example) -> None:
        """Refused before anything is paid for, with the strategy that fits."""
        with pytest.raises(InputError, match="seeded"):
            build_rationale_strategy(TaskBrief((seed,), is_classification=False), SAMPLING)


def test_analysis_finds_conventions() -> None:
    """Formats most seeds share are found and said; they are what a teacher gets wrong first."""
    profile = analyze_seeds(make_rows(10), is_classification=False)
    assert "ends with a question mark" in profile.input_conventions
    assert "ends with a full stop" in profile.target_conventions
    assert profile.input_words.middle == 5


def test_analysis_of_few_rows() -> None:
    """Three rows establish no convention, and one row is enough to be analysed."""
    assert analyze_seeds(make_rows(3), is_classification=False).input_conventions == ()
    assert analyze_seeds(make_rows(1), is_classification=True).labels == {"It is 0.": 1}


def test_unknown_strategy(brief: TaskBrief) -> None:
    """The message lists the names there are."""
    with pytest.raises(InputError, match=r"'inContext', 'rationale', 'seeded'"):
        build_strategy("other", brief, SAMPLING, is_chat=False)
