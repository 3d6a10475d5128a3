"""A judge of answers: what it is asked, what is read from it, and what may be concluded."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from hashlib import md5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam_runtime.data.examples import Example, Turn
from loam_runtime.evaluation.answer_judge import JudgeBrief, Opinion, read_opinion
from loam_runtime.evaluation.answer_trust import (
    AnswerTrust,
    compute_answer_trust,
    draw_trials,
)
from loam_runtime.evaluation.answer_verdict import (
    JudgedPair,
    decide_answer_verdict,
    decide_pair,
)
from loam_runtime.synthesis.parsing import parse_objects

BRIEF = JudgeBrief("Say where things are.", "the place is right")
TRUSTED = AnswerTrust(20, 20, 20, 1e-6)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def build_row(number: int, target: str = "", group: str = "") -> Example:
    return Example(f"r{number}", f"where is {number}?", target or f"at place {number}", group=group)


def read_material(question: str) -> dict[str, str]:
    return json.loads(question.rpartition("\n")[2])


@given(input=TEXTS, target=TEXTS, first=TEXTS, second=TEXTS)
def test_the_question_holds_every_text_as_it_is(input, target, first, second):
    """Braces, quotes and line breaks of a row must not change the question around them, and a row
    must not be able to put words outside of the material."""
    row = Example("r", input, target, context=(Turn("user", "hello {A}"),))
    both = BRIEF.compose_both(row, first, second, shows_reference=True)
    heads = set()
    for question, answers in zip(both, ((first, second), (second, first)), strict=True):
        material = read_material(question)
        assert (material["A"], material["B"]) == answers
        assert (material["input"], material["earlier messages"]) == (input, "user: hello {A}")
        assert material.get("reference", "") == (target if target.strip() else "")
        assert "the place is right." in question
        heads.add(question.rpartition("\n")[0])
    other = Example("r", "i", "t" if target.strip() else "", context=row.context)
    plain = BRIEF.compose(other, "1", "2", shows_reference=True)
    assert heads == {plain.rpartition("\n")[0]}


def test_a_trial_does_not_give_the_answer_away():
    """Shown the reference, any judge would find it again: nothing would be measured."""
    question = BRIEF.compose(build_row(1), "at place 1", "at place 2", shows_reference=False)
    assert "reference" not in question


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ('[{"reason": "It is right.", "label": "A"}]', "A"),
        ('{"rows": [{"reason": "r", "label": "B"}]}', "B"),
        ('{"label": "tie"}', "tie"),
        ('<think>A? No, {"label": "A"} is wrong.</think>\n{"reason": "r", "label": "b"}', "B"),
        ('Sure!\n```json\n[{"reason": "r", "label": "TIE"}]\n```\nAnything else?', "tie"),
        ('[{"reason": "He said \\"A\\"", "label": " B "}]', "B"),
        ('[{"label": "A"}, {"label": "A"}]', "A"),
        ('[{"label": "A"}, {"label": "B"}]', ""),
        ('[{"label": "C"}]', ""),
        ('[{"label": ["A"]}]', ""),
        ('[{"label": null}]', ""),
        ('[{"verdict": "A"}]', ""),
        ("<think>I like A", ""),
        ("A", ""),
        ("", ""),
    ],
)
def test_what_is_read_is_what_was_said(text, choice):
    """A verdict that is guessed from a mention of a letter is the reader's, not the judge's."""
    assert read_opinion(parse_objects(text)).choice == choice


@given(text=st.text(max_size=200) | st.text('[]{}"label:AB, <think>`\n', max_size=80))
def test_garbage_is_read_as_something(text):
    """Whatever a model writes, the run goes on: an answer is a choice or none."""
    assert read_opinion(parse_objects(text)).choice in ("A", "B", "tie", "")


CHOICES = st.sampled_from(["A", "B", "tie", ""])
SWAPPED = {"A": "B", "B": "A", "tie": "tie", "": ""}


@given(first=CHOICES, second=CHOICES)
def test_a_win_is_one_in_both_orders(first, second):
    """A judge that favours a place must decide nothing; and which model is called the first must
    not matter: with the answers exchanged a win is a loss."""
    outcome, is_consistent = decide_pair(Opinion(first), Opinion(second))
    if not first or not second:
        assert outcome == "unreadable"
        return
    assert (outcome == "win") == ((first, second) == ("A", "B"))
    assert (outcome == "loss") == ((first, second) == ("B", "A"))
    assert is_consistent == (second == SWAPPED[first])
    exchanged, _ = decide_pair(Opinion(SWAPPED[first]), Opinion(SWAPPED[second]))
    assert {outcome, exchanged} in ({"win", "loss"}, {"tie"})


@pytest.mark.parametrize("said", [(None, None), (Opinion("A"), None), (None, Opinion("B"))])
def test_half_a_verdict_is_none(said):
    """A budget that ends between the two orders must not leave a win of one order."""
    assert decide_pair(*said) == ("unanswered", True)


def answer_trials(rows: list[Example], prefers: Callable[[str, str], bool]) -> AnswerTrust:
    """Trust in a judge that prefers the first of two texts where `prefers` says so."""
    said = []
    for trial in draw_trials(rows, 3):
        questions = BRIEF.compose_both(trial.row, trial.row.target, trial.wrong, shows_reference=0)
        shown = [read_material(question) for question in questions]
        said.append(tuple(Opinion("A" if prefers(s["A"], s["B"]) else "B") for s in shown))
    return compute_answer_trust(said)


def build_varied_rows(count: int, seed: int) -> list[Example]:
    rng = random.Random(seed)
    return [build_row(n, f"place {n} " + "x" * rng.randrange(200)) for n in range(count)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "prefers",
    [
        lambda a, b: True,
        lambda a, b: False,
        lambda a, b: len(a) > len(b),
        lambda a, b: len(a) < len(b),
        lambda a, b: md5(a.encode()).digest() > md5(b.encode()).digest(),
    ],
    ids=["first", "second", "longer", "shorter", "whim"],
)
def test_a_judge_that_does_not_read_the_input_is_not_trusted(prefers, seed):
    """Its verdicts would be a measure of length or place, told as one of quality."""
    trust = answer_trials(build_varied_rows(60, seed), prefers)
    assert trust.num_trials == 20
    assert not trust.is_trusted


@given(
    targets=st.lists(st.sampled_from(["a", "b c", "d e f", "The a", "", "long " * 30]), max_size=30)
)
def test_a_wrong_answer_is_wrong(targets):
    """A trial whose two answers say the same has no right answer, and one that cannot prove
    anything is not paid for."""
    rows = [
        Example(f"r{n}", f"q{n}", target, group=f"g{n % 3}") for n, target in enumerate(targets)
    ]
    trials = draw_trials(rows, 1)
    assert len(trials) == 0 or len(trials) >= 5
    assert draw_trials(rows, 1) == trials
    for trial in trials:
        assert trial.wrong.casefold().removeprefix("the ") != trial.row.target.casefold()
        assert trial.wrong.strip()
        assert trial.row.target.strip()


@pytest.mark.parametrize(("num_right", "is_trusted"), [(20, True), (15, True), (14, False)])
def test_trust_is_better_than_chance(num_right, is_trusted):
    """Exact binomial at 5 %: of 20 rows, 15."""
    right, wrong = (Opinion("A"), Opinion("B")), (Opinion("B"), Opinion("A"))
    trust = compute_answer_trust([right] * num_right + [wrong] * (20 - num_right))
    assert trust.is_trusted == is_trusted
    unreadable = compute_answer_trust([right] * 14 + [(Opinion(""), Opinion("B"))] * 6)
    assert not unreadable.is_trusted
    unanswered = compute_answer_trust([right] * 5 + [(None, Opinion("B"))] * 15)
    assert (unanswered.num_rows, unanswered.is_trusted) == (5, True)


def build_pairs(win: int = 0, tie: int = 0, loss: int = 0, unanswered: int = 0) -> list[JudgedPair]:
    counts = {"win": win, "tie": tie, "loss": loss, "unanswered": unanswered}
    outcomes = [outcome for outcome, count in counts.items() for _ in range(count)]
    return [JudgedPair(f"r{n}", "", outcome) for n, outcome in enumerate(outcomes)]


def decide(pairs: list[JudgedPair], trust: AnswerTrust | None = TRUSTED, is_spent: bool = False):
    options = {"judge": "j-9b", "baseline": "zeroShot", "is_budget_spent": is_spent}
    return decide_answer_verdict(pairs, trust, **options)


@pytest.mark.parametrize(
    ("pairs", "prefers_tuned", "words"),
    [
        (build_pairs(win=70, tie=20, loss=10), True, "prefers the fine-tuned model's answers to"),
        (build_pairs(win=10, tie=20, loss=70), False, "prefers the answers of the base model"),
        (build_pairs(win=36, tie=28, loss=36), None, "does not tell whether"),
        (build_pairs(tie=60), None, "does not tell whether"),
        (build_pairs(win=49), None, "Not assessable by the judge j-9b: 49 judged rows"),
    ],
)
def test_what_is_said_is_what_the_rows_decide(pairs, prefers_tuned, words):
    """A claim that its own interval does not bear is worse than none."""
    verdict = decide(pairs)
    assert verdict.prefers_tuned is prefers_tuned
    assert words in verdict.text
    assert verdict.win_rate.low <= verdict.win_rate.value <= verdict.win_rate.high
    json.dumps(verdict.to_record())


def test_a_judge_that_is_not_trusted_concludes_nothing():
    """However clear its counts look."""
    verdict = decide(build_pairs(win=100), AnswerTrust(12, 20, 20, 0.25))
    assert (verdict.prefers_tuned, verdict.is_assessable) == (None, False)
    assert "is not trusted and decides nothing" in verdict.text
    assert "12 of 20" in verdict.text
    assert "too few, or too much alike" in decide([], AnswerTrust(0, 0, 0, 1.0)).text
    assert "answered none" in decide([], AnswerTrust(0, 0, 20, 1.0)).text
    assert "no test set" in decide([], None).text


def test_a_spent_budget_is_said_with_what_was_judged():
    """A part must not pass for the whole."""
    verdict = decide(build_pairs(win=60, unanswered=140), is_spent=True)
    assert verdict.win_rate.value == 1.0
    assert "win rate 1.000 on 60 held-out rows" in verdict.text
    assert "budget was spent" in verdict.text
    assert "140 rows were not judged" in verdict.text


def test_rows_of_a_group_are_drawn_together():
    """Ten questions about one document are one piece of evidence, not ten."""
    alone = build_pairs(win=40, loss=20)
    grouped = [JudgedPair(p.row_id, f"g{n // 10}", p.outcome) for n, p in enumerate(alone)]
    wide, narrow = decide(grouped).win_rate, decide(alone).win_rate
    assert wide.method == "groupBootstrap"
    assert wide.high - wide.low > narrow.high - narrow.low
