"""From what a judge said of each pair of answers to what may be said of the two models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from loam_runtime.evaluation.answer_judge import Opinion
from loam_runtime.evaluation.answer_trust import AnswerTrust
from loam_runtime.evaluation.comparison import BASELINES_IN_WORDS, MIN_ROWS_FOR_VERDICT
from loam_runtime.evaluation.metrics import combine_mean
from loam_runtime.evaluation.resampling import (
    Interval,
    bootstrap_statistic,
    compute_percentile_interval,
)

Outcome = Literal["win", "tie", "loss", "unreadable", "unanswered"]

_SCORES: dict[Outcome, float] = {"win": 1.0, "tie": 0.5, "loss": 0.0}
_VOTES = {"A": 1, "B": -1, "tie": 0}
EVEN = 0.5  # the win rate of two models that are as good as each other


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """One row's verdict, of the fine-tuned model's answer against the baseline's.

    Attributes:
        group: of the row, "" for none.
        is_consistent: both orders said the same.
    """

    row_id: str
    group: str
    outcome: Outcome
    is_consistent: bool = True


def decide_pair(first: Opinion | None, second: Opinion | None) -> tuple[Outcome, bool]:
    """The outcome of one pair, and whether both orders agree.

    A win or a loss is one that both orders name; where they differ the place decided, and it is
    a tie.

    Args:
        first, second: what was said with the fine-tuned model's answer as A, and as B; None where
            nothing was.
    """
    if first is None or second is None:
        return "unanswered", True
    if not first.choice or not second.choice:
        return "unreadable", True
    vote, other = _VOTES[first.choice], -_VOTES[second.choice]
    if vote != other:
        return "tie", False
    outcomes: dict[int, Outcome] = {1: "win", 0: "tie", -1: "loss"}
    return outcomes[vote], True


@dataclass(frozen=True, slots=True)
class AnswerVerdict:
    """What the judge says of the two models, and how far that goes.

    Attributes:
        text: in one to four sentences.
        judge, baseline: names of the judge's model and of what the answers were compared with.
        trust: how the judge did where the right answer is known; None where there was no test.
        counts: rows by outcome.
        num_rows: rows that were to be judged.
        num_inconsistent: judged rows of which the two orders said different things.
        win_rate: share of wins among the judged rows, a tie counting half; None without any.
        prefers_tuned: True or False where the interval leaves no doubt, else None.
        is_assessable: a trusted judge has judged rows enough to conclude anything.
        is_budget_spent: the budget ended it.
    """

    text: str
    judge: str
    baseline: str
    trust: AnswerTrust | None
    counts: dict[Outcome, int]
    num_rows: int
    num_inconsistent: int
    win_rate: Interval | None
    prefers_tuned: bool | None
    is_assessable: bool
    is_budget_spent: bool

    def to_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        trust = self.trust.to_record() if self.trust else None
        return {**asdict(self), "trust": trust}


def decide_answer_verdict(
    pairs: Sequence[JudgedPair],
    trust: AnswerTrust | None,
    *,
    judge: str,
    baseline: str,
    is_budget_spent: bool,
) -> AnswerVerdict:
    """Count, and say what the judged rows allow to say."""
    judged = [pair for pair in pairs if pair.outcome in _SCORES]
    win_rate = compute_win_rate(judged)
    is_assessable = trust is not None and trust.is_trusted and len(judged) >= MIN_ROWS_FOR_VERDICT
    prefers_tuned = None
    if is_assessable and win_rate and (win_rate.low > EVEN or win_rate.high < EVEN):
        prefers_tuned = win_rate.value > EVEN
    counts = Counter(pair.outcome for pair in pairs)
    sentences = [
        _say_result(judge, baseline, trust, win_rate, len(judged), prefers_tuned),
        _say_counts(counts) if judged else "",
        _say_what_is_missing(counts, is_budget_spent),
    ]
    return AnswerVerdict(
        text=" ".join(filter(None, sentences)),
        judge=judge,
        baseline=baseline,
        trust=trust,
        counts={name: counts[name] for name in ("win", "tie", "loss", "unreadable", "unanswered")},
        num_rows=len(pairs),
        num_inconsistent=sum(not pair.is_consistent for pair in judged),
        win_rate=win_rate,
        prefers_tuned=prefers_tuned,
        is_assessable=is_assessable,
        is_budget_spent=is_budget_spent,
    )


def compute_win_rate(judged: Sequence[JudgedPair]) -> Interval | None:
    """Share of wins, ties half, with its interval by bootstrap over rows or groups of them."""
    if not judged:
        return None
    scores = np.array([(_SCORES[pair.outcome], 1.0) for pair in judged])
    groups = [pair.group for pair in judged]
    resampled = bootstrap_statistic(scores, combine_mean, groups)
    return compute_percentile_interval(float(combine_mean(scores.sum(0))), resampled, groups)


def _say_result(
    judge: str,
    baseline: str,
    trust: AnswerTrust | None,
    win_rate: Interval | None,
    num_judged: int,
    prefers_tuned: bool | None,
) -> str:
    if trust is None:
        return f"The judge {judge} was not asked: there is no test set."
    if not trust.is_trusted:
        return f"The judge {judge} is not trusted and decides nothing: {_say_trust(trust)}."
    if win_rate is None:
        return f"The judge {judge} has judged no answers."
    other = BASELINES_IN_WORDS.get(baseline, baseline)
    figures = (
        f"win rate {win_rate.value:.3f} on {num_judged} held-out rows "
        f"(95 % interval {win_rate.low:.3f} to {win_rate.high:.3f})"
    )
    if num_judged < MIN_ROWS_FOR_VERDICT:
        return (
            f"Not assessable by the judge {judge}: {num_judged} judged rows are too few, "
            f"{MIN_ROWS_FOR_VERDICT} or more are needed; {figures} against {other}."
        )
    claim = {
        True: f"The judge {judge} prefers the fine-tuned model's answers to those of {other}",
        False: f"The judge {judge} prefers the answers of {other} to the fine-tuned model's",
        None: f"The judge {judge} does not tell whether the fine-tuned model's answers are better "
        f"than those of {other}",
    }[prefers_tuned]
    return f"{claim}: {figures}."


def _say_trust(trust: AnswerTrust) -> str:
    if not trust.num_trials:
        return "the test rows are too few, or too much alike, to prove anything of it"
    if not trust.num_rows:
        return "it answered none of the questions that it is measured by"
    return (
        f"it preferred a row's true answer to that of another row on {trust.num_right} of "
        f"{trust.num_rows} rows, which may be chance"
    )


def _say_counts(counts: Counter[Outcome]) -> str:
    return f"{counts['win']} wins, {counts['tie']} ties, {counts['loss']} losses."


def _say_what_is_missing(counts: Counter[Outcome], is_budget_spent: bool) -> str:
    parts = []
    if is_budget_spent:
        parts.append("Its budget was spent before the end (evaluation.judge.budget).")
    if counts["unanswered"]:
        parts.append(f"{counts['unanswered']} rows were not judged.")
    if counts["unreadable"]:
        parts.append(f"What it said of {counts['unreadable']} rows could not be read.")
    return " ".join(parts)
