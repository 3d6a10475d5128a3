"""The verdict says what the rows show, and no more."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tools.cases import count_cases

from loam_runtime.evaluation.comparison import compare, decide_verdict
from loam_runtime.evaluation.model_evaluation import ModelEvaluation, evaluate_predictions


def make(name: str, hits: list[bool], group_size: int = 0) -> ModelEvaluation:
    """A classifier that is right where `hits` says so."""
    predictions = [
        {
            "id": str(i),
            "target": "ab"[i % 2],
            "label": "ab"[i % 2] if hit else "ab"[(i + 1) % 2],
            "group": str(i // group_size) if group_size else "",
        }
        for i, hit in enumerate(hits)
    ]
    return evaluate_predictions(name, "classification", predictions)


def share(num_right: int, total: int = 100) -> list[bool]:
    return [i < num_right for i in range(total)]


@given(st.lists(st.booleans(), min_size=1, max_size=60))
@settings(max_examples=count_cases(20), deadline=None)
def test_identical_answers_differ_by_nothing(hits: list[bool]) -> None:
    """A model compared with itself never wins."""
    difference = compare(make("tuned", hits), make("zeroShot", hits))
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)
    assert difference.p_value == 1
    assert difference.is_better is None


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
@settings(max_examples=count_cases(20), deadline=None)
def test_a_difference_turns_its_sign_with_the_sides(pairs: list[tuple[bool, bool]]) -> None:
    """Which model is named first changes the sign and nothing else."""
    hits, others = map(list, zip(*pairs, strict=True))
    first, second = make("x", hits), make("y", others)
    forth, back = compare(first, second), compare(second, first)
    assert forth.value == -back.value
    assert forth.p_value == pytest.approx(back.p_value)
    assert forth.low == pytest.approx(-back.high)


def test_mcnemar_is_exact() -> None:
    """12 rows gained and 3 lost: two-sided binomial p = 0.0352."""
    before = [i >= 12 for i in range(60)]
    after = [i < 57 for i in range(60)]
    assert compare(make("tuned", after), make("zeroShot", before)).p_value == pytest.approx(
        0.03515625
    )


def test_other_rows_cannot_be_compared() -> None:
    """A pairing of different rows would be a number without a meaning."""
    with pytest.raises(ValueError, match="different rows"):
        compare(make("tuned", share(5, 10)), make("zeroShot", share(5, 11)))


def test_a_clear_win_is_said() -> None:
    """It names the strongest baseline, not the weakest."""
    baselines = [
        make("majority", share(50)),
        make("zeroShot", share(70)),
        make("inContext", share(60)),
    ]
    verdict = decide_verdict(make("tuned", share(95)), baselines, 100)
    assert verdict.wins is True
    assert verdict.best_baseline == "zeroShot"
    assert verdict.text.startswith("Fine-tuning beats the best baseline, the base model without")
    assert "0.950 against 0.700 on 100 held-out rows, difference +0.250" in verdict.text
    json.dumps(verdict.to_record())


def test_a_loss_is_said() -> None:
    """Nobody deploys an adapter that is worse than a prompt because the report was polite."""
    verdict = decide_verdict(make("tuned", share(50)), [make("inContext", share(90))], 100)
    assert verdict.wins is False
    assert "loses" in verdict.text
    assert "Prompting the base model is the better choice" in verdict.text


def test_what_the_rows_do_not_show_is_left_open() -> None:
    """Two points on 100 rows are noise."""
    verdict = decide_verdict(make("tuned", share(82)), [make("inContext", share(80))], 100)
    assert verdict.is_assessable
    assert verdict.wins is None
    assert verdict.text.startswith("It cannot be told")


@pytest.mark.parametrize(("test_size", "is_assessable"), [(49, False), (50, True)])
def test_few_rows_decide_nothing(test_size: int, is_assessable: bool) -> None:
    """Under 50 rows no verdict is given, however large the difference."""
    tuned, base = make("tuned", share(test_size, test_size)), make("zeroShot", share(0, test_size))
    verdict = decide_verdict(tuned, [base], test_size)
    assert verdict.is_assessable == is_assessable
    assert verdict.wins == (True if is_assessable else None)
    assert verdict.text.startswith("Not assessable") != is_assessable


def test_without_baselines_nothing_is_claimed() -> None:
    verdict = decide_verdict(make("tuned", share(99)), [], 100)
    assert not verdict.is_assessable
    assert "no baseline" in verdict.text


def test_a_lower_loss_is_a_win() -> None:
    """The sign of "better" is the metric's: for a loss, down."""

    def make_texts(name: str, loss: float) -> ModelEvaluation:
        rows = [{"id": str(i), "target": "t", "logProb": [-loss * 4 - i % 3, 4]} for i in range(60)]
        return evaluate_predictions(name, "text", rows)

    verdict = decide_verdict(make_texts("tuned", 2.0), [make_texts("zeroShot", 3.0)], 60)
    assert verdict.wins is True
    assert verdict.difference.value == pytest.approx(-1.0)


def test_grouped_rows_widen_the_interval() -> None:
    """Twenty questions on each of five documents are not a hundred observations."""
    after, before = [i % 20 < 17 for i in range(100)], [i // 20 not in (0, 1) for i in range(100)]
    alone = compare(make("tuned", after), make("zeroShot", before))
    grouped = compare(make("tuned", after, 20), make("zeroShot", before, 20))
    assert grouped.method == "groupBootstrap"
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
