"""The metrics against their definitions and against the packages that the field uses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score
from tests.tools.cases import count_cases

from loam_runtime.evaluation.metrics import METRICS, compute_contributions, measure
from loam_runtime.evaluation.resampling import compute_wilson_interval
from loam_runtime.evaluation.text_overlap import (
    compute_rouge_l,
    compute_token_f1,
    normalize_answer,
)

LABELS = st.sampled_from(["a", "b", "c", ""])
PAIRS = st.lists(st.tuples(LABELS, LABELS.filter(bool)), min_size=1, max_size=40)
WORDS = st.text(alphabet="ab c,.日é\n", max_size=20)


def make_rows(pairs: list[tuple[str, str]], field: str = "label") -> list[dict]:
    return [
        {"id": str(i), "target": target, field: predicted}
        for i, (predicted, target) in enumerate(pairs)
    ]


def compute(name: str, rows: list[dict]) -> float:
    metric = METRICS[name]
    return float(metric.combine(compute_contributions(metric, rows).sum(0)))


@given(PAIRS)
@settings(max_examples=count_cases(50), deadline=None)
def test_label_metrics_equal_sklearn(pairs: list[tuple[str, str]]) -> None:
    """Reported figures can be compared with anyone's; an invalid answer is no class of its own."""
    predicted, targets = zip(*pairs, strict=True)
    classes = sorted(set(targets))
    expected = f1_score(targets, predicted, labels=classes, average="macro", zero_division=0)
    assert compute("macroF1", make_rows(pairs)) == pytest.approx(expected)
    assert compute("accuracy", make_rows(pairs)) == accuracy_score(targets, predicted)


@given(PAIRS, st.randoms(use_true_random=False))
@settings(max_examples=count_cases(25), deadline=None)
def test_metrics_do_not_depend_on_the_order_of_rows(pairs, random) -> None:
    """A shuffled test set is the same test set."""
    shuffled = random.sample(pairs, len(pairs))
    for name in ("accuracy", "macroF1"):
        rows = [make_rows(one) for one in (pairs, shuffled)]
        assert compute(name, rows[0]) == pytest.approx(compute(name, rows[1]))


@given(PAIRS)
@settings(max_examples=count_cases(15), deadline=None)
def test_intervals_hold_the_value_and_stay_in_bounds(pairs: list[tuple[str, str]]) -> None:
    """No share below 0 or above 1 is ever shown."""
    for interval in measure(make_rows(pairs)).values():
        assert 0 <= interval.low <= interval.value <= interval.high <= 1


@given(WORDS, WORDS)
@settings(deadline=None)
def test_overlap_is_symmetric_bounded_and_1_for_equal_texts(first: str, second: str) -> None:
    """The metrics of generated text measure likeness, in any script."""
    for overlap in (compute_token_f1, compute_rouge_l):
        assert 0 <= overlap(first, second) <= 1
        assert overlap(first, second) == pytest.approx(overlap(second, first))
    assert compute_token_f1(first, first) == 1
    assert compute_token_f1(first, second) >= (normalize_answer(first) == normalize_answer(second))


@pytest.mark.parametrize(
    ("predicted", "target", "exact", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1, 1),
        ("in Paris, France", "Paris", 0, 0.5),
        ("", "Paris", 0, 0),
        ("“Paris”", "paris", 1, 1),
        ("東京都", "東京", 0, 0.8),
    ],
)
def test_answers_are_compared_as_squad_does(predicted, target, exact, f1) -> None:
    """Case, punctuation and articles do not make an answer wrong."""
    rows = make_rows([(predicted, target)], "answer")
    assert compute("exactMatch", rows) == exact
    assert compute("tokenF1", rows) == pytest.approx(f1)


def test_rouge_l_is_the_packages_own_on_english_and_works_on_other_scripts() -> None:
    """rouge-score drops every letter outside a-z, which would score any Japanese summary 0."""
    target, predicted = "The cat sat on the mat.", "A cat is on the mat"
    theirs = RougeScorer(["rougeL"]).score(target, predicted)["rougeL"].fmeasure
    assert compute_rouge_l(predicted, target) == pytest.approx(theirs)
    assert compute_rouge_l("猫が座る", "猫が走る") == pytest.approx(0.75)


@given(st.integers(1, 500), st.data())
@settings(max_examples=count_cases(40), deadline=None)
def test_wilson_equals_scipy(num_rows: int, data) -> None:
    """The formula is right at 0, at 1 and between."""
    hits = data.draw(st.integers(0, num_rows))
    expected = binomtest(hits, num_rows).proportion_ci(method="wilson")
    interval = compute_wilson_interval(hits, num_rows)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=1e-9)


def test_invalid_answers_are_counted() -> None:
    """A model that answers with no label at all is seen to."""
    rows = make_rows([("", "a"), ("b", "b"), ("a", "b"), ("", "b")], "generatedLabel")
    assert measure(rows)["invalidRate"].value == 0.5


def test_log_loss_is_by_token() -> None:
    """Long texts weigh by their tokens, as in perplexity."""
    rows = make_rows([([-6.0, 3], ""), ([-2.0, 1], "")], "logProb")
    assert measure(rows)["logLoss"].value == 2.0


def test_rows_of_a_group_are_drawn_together() -> None:
    """Ten copies of a question are one observation: the interval must not shrink with them."""
    pairs = [("a", "a"), ("b", "a"), ("a", "a"), ("b", "a"), ("a", "a"), ("a", "a")]
    copies = [{**row, "group": f"document {i % 6}"} for i, row in enumerate(make_rows(pairs * 10))]
    grouped = measure(copies)["accuracy"]
    ungrouped = measure(make_rows(pairs * 10))["accuracy"]
    assert grouped.method == "groupBootstrap"
    assert grouped.value == ungrouped.value
    assert grouped.high - grouped.low > 2 * (ungrouped.high - ungrouped.low)


def test_bootstrap_intervals_cover_the_truth() -> None:
    """About 95 of 100 intervals hold the true mean."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        values = rng.normal(2.0, 1.0, 80)
        rows = make_rows([([-value, 1], "") for value in values], "logProb")
        interval = measure(rows)["logLoss"]
        covered += interval.low <= 2.0 <= interval.high
    assert 52 <= covered <= 60
