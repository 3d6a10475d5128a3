"""Label consistency by asking: which label does a model give a row that it is shown without?

For models that give no log-probabilities (`consistency` is for those that do). The answer is
one of the labels, held to them by a schema where the endpoint takes one; the label of a row is
what two of three orders of the examples agree on, so the third is asked only where it can decide.
As there, the filter is first measured on the seeds, none of which is among the examples of the
prompt that judges it: where it is not better than always saying the majority class, it is not
trusted and drops nothing.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from loam_runtime.data.examples import Example
from loam_runtime.data.normalize import normalize_text
from loam_runtime.synthesis.exchange import LABEL_KEY, Respondent, TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.filters.base import Ask, Verdict
from loam_runtime.synthesis.filters.trust import (
    GENERATING_MODEL,
    OnUntrusted,
    Trust,
    can_be_trusted,
    choose_measured,
    compute_trust,
    cut_folds,
    draw_orders,
)
from loam_runtime.synthesis.parsing import parse_label
from loam_runtime.synthesis.strategies.base import TaskBrief

MAX_SHOTS = 24  # of all labels together, but one of each at least
MAX_SHOTS_PER_LABEL = 4
MAX_MEASURED_SEEDS = 40  # each costs up to three requests
MEASURED_AT_ONCE = 10

Vote = str | None  # a label; "" for an answer that names none; None for no answer


@dataclass(frozen=True, slots=True)
class _Query:
    """A text to be labelled, and the seeds that its prompt may not show."""

    text: str
    hidden: frozenset[str] = frozenset()


class AskedConsistencyFilter:
    """Drops rows that a model, asked without their label, would label otherwise.

    A row that it could not be asked about (the budget was spent, or every try failed) stays and is
    counted: the other filters have judged it.

    Args:
        brief: the task; shots are drawn from its seeds.
        is_chat: who is asked follows instructions; a base model is given a list to continue.
        max_tokens: of an answer; thinking teachers need more than a label's.
        on_untrusted: keep the rows unjudged, or fail.
        respondent: who is asked.
        judge_name: how a report calls it.
    """

    name = "consistency"

    def __init__(
        self,
        brief: TaskBrief,
        *,
        is_chat: bool,
        max_tokens: int,
        on_untrusted: OnUntrusted = "keep",
        respondent: Respondent = "teacher",
        judge_name: str = GENERATING_MODEL,
    ) -> None:
        self._brief = brief
        self._is_chat = is_chat
        self._max_tokens = max_tokens
        self._on_untrusted = on_untrusted
        self._respondent: Respondent = respondent
        self._judge_name = judge_name
        self._names = {label: brief.name_label(label) for label in brief.labels}
        per_label = max(1, min(MAX_SHOTS_PER_LABEL, MAX_SHOTS // len(brief.labels)))
        rng = random.Random(brief.random_seed)
        self._orders = draw_orders(brief.seeds, brief.labels, rng, per_label=per_label)
        self._trust: Trust | None = None
        self._num_judged = self._num_agreed = self._num_unjudged = 0

    async def measure(self, ask: Ask) -> None:
        """See `AskedFilter`.

        Raises:
            InputError: it is not trusted and `on_untrusted` is "fail".
            BudgetError: the budget ended before it was measured.
        """
        measured = choose_measured(
            self._brief.seeds,
            self._orders[0],
            enough=MAX_MEASURED_SEEDS,
            most=MAX_MEASURED_SEEDS,
        )
        self._trust = await self._measure_on(measured, ask)
        if not self._trust.is_trusted and self._on_untrusted == "fail":
            raise self._trust.refuse(self._judge_name)

    @property
    def is_trusted(self) -> bool:
        """Whether it was measured and found better than the majority class."""
        return self._trust is not None and self._trust.is_trusted

    async def _measure_on(self, seeds: list[Example], ask: Ask) -> Trust:
        """Until all were asked about, or the rest could not make it trusted any more."""
        seeds = random.Random(self._brief.random_seed).sample(seeds, len(seeds))
        queries = self._hide_each(seeds)
        own = [seed.target for seed in seeds]
        found: list[str] = []
        while len(found) < len(own) and can_be_trusted(own, found):
            votes = await self._poll(queries[len(found) :][:MEASURED_AT_ONCE], ask)
            found += [_find_majority(given) for given in votes]
        return compute_trust(own, found)

    async def judge(self, rows: Sequence[Example], ask: Ask) -> list[Verdict]:
        """See `AskedFilter`. The score of a dropped row is its label's share of the votes."""
        assert self._trust is not None, "measure() comes first"
        if not self._trust.is_trusted:
            return [Verdict() for _ in rows]
        votes = await self._poll([_Query(row.input) for row in rows], ask)
        return [self._compare(row, given) for row, given in zip(rows, votes, strict=True)]

    def describe(self) -> dict[str, object]:
        """See `AskedFilter`. `agreement`: share of the rows judged whose label was given again."""
        if self._trust is None:
            return {"judge": self._judge_name, "trusted": None}
        told = {**self._trust.describe(self._judge_name), "unjudged": self._num_unjudged}
        if self._num_judged:
            told["agreement"] = round(self._num_agreed / self._num_judged, 4)
        if self._num_unjudged:
            told["note"] = (
                f"{told['note']} {self._num_unjudged} rows were not asked about to the end and "
                "stay: the budget was spent, or every try failed."
            )
        return told

    def _hide_each(self, seeds: Sequence[Example]) -> list[_Query]:
        shown = {shot.id for shot in self._orders[0]}
        hidden = {
            seed.id: frozenset(other.id for other in fold)
            for fold in cut_folds([seed for seed in seeds if seed.id in shown])
            for seed in fold
        }
        return [_Query(seed.input, hidden.get(seed.id, frozenset())) for seed in seeds]

    async def _poll(self, queries: Sequence[_Query], ask: Ask) -> list[list[Vote]]:
        """The votes on each text; a third one only where it can decide."""
        votes: list[list[Vote]] = [[] for _ in queries]
        for orders in (self._orders[:2], self._orders[2:]):
            places = [
                place for place, given in enumerate(votes) if _may_agree(given) for _ in orders
            ]
            requests = [
                self._compose(queries[place], orders[turn % len(orders)])
                for turn, place in enumerate(places)
            ]
            answers = await ask(requests, self._respondent)
            for place, answer in zip(places, answers, strict=True):
                votes[place].append(self._read(answer))
        return votes

    def _compose(self, query: _Query, order: Sequence[Example]) -> TeacherRequest:
        shots = [shot for shot in order if shot.id not in query.hidden]
        parts = [
            *([f"Task: {self._brief.description}"] if self._brief.description else []),
            "\n".join(["Which class does a text belong to? The classes:", *self._list_names()]),
            *(f"{self._show(shot.input)} {self._write(shot.target)}" for shot in shots),
            self._show(query.text),
        ]
        if self._is_chat:
            parts.append(f'Answer with JSON alone: {{"{LABEL_KEY}": one of the classes}}.')
        return TeacherRequest(
            messages=(("user", "\n\n".join(parts)),),
            max_tokens=self._max_tokens,
            temperature=0.0,
            stop=() if self._is_chat else ("\n",),
            choices=tuple(self._names.values()) if self._is_chat else (),
        )

    def _list_names(self) -> list[str]:
        return [f"- {name}" for name in self._names.values()]

    def _show(self, text: str) -> str:
        """A text in quotes: on one line, and told from the words around it."""
        return f"Text: {json.dumps(text, ensure_ascii=False)}\nClass:"

    def _write(self, label: str) -> str:
        name = self._names[label]
        return json.dumps({LABEL_KEY: name}, ensure_ascii=False) if self._is_chat else name

    def _read(self, answer: TeacherAnswer | None) -> Vote:
        if answer is None:
            return None
        return self._match(parse_label(answer.text, is_complete=answer.is_complete))

    def _match(self, said: str) -> str:
        """The label of this name; letter case counts only where names differ in nothing else."""
        exact = [label for label, name in self._names.items() if said == name]
        folded = [
            label
            for label, name in self._names.items()
            if normalize_text(said) == normalize_text(name)
        ]
        found = exact or folded
        return found[0] if len(found) == 1 else ""

    def _compare(self, row: Example, votes: Sequence[Vote]) -> Verdict:
        label = _find_majority(votes)
        if not label and None in votes:
            self._num_unjudged += 1
            return Verdict()
        self._num_judged += 1
        if label == row.target:
            self._num_agreed += 1
            return Verdict()
        reason = f"labelled {label} when asked" if label else "labelled differently each time"
        return Verdict(reason, round(votes.count(row.target) / len(votes), 4))


def _may_agree(votes: Sequence[Vote]) -> bool:
    """Whether one more vote may make a majority: not where there is one, or none gave a label."""
    return not votes or (any(votes) and not _find_majority(votes))


def _find_majority(votes: Sequence[Vote]) -> str:
    """The label that two orders agree on; "" while there is none."""
    counts = Counter(vote for vote in votes if vote)
    label, count = counts.most_common(1)[0] if counts else ("", 0)
    return label if count >= 2 else ""
