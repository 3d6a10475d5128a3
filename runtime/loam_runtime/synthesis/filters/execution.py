"""Truth by execution: of a query it can be run whether it is right, so its words do not decide.

A query is right where it returns, in the database of the job, what the seed's own query returns
(execution accuracy; Yu et al., 2018, Spider). Two things follow for the quality classifier. What
was made bad by a rule and returns the same after all is no bad example. And a seed's query with
one word exchanged is the error that nobody sees by reading it: it runs, and returns another result.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.filters.corruptions import Fault
from loam_runtime.synthesis.filters.structured import (
    MIN_SEEDS,
    MIN_SHARE,
    TOO_MANY_STEPS,
    find_sql_fault,
    read_rows,
)

_Result = tuple[list[tuple[object, ...]], str]  # rows, and why there are none
Outcome = Literal["same result", "runs, another result", "does not run", ""]

SAME_RESULT: Outcome = "same result"
ANOTHER_RESULT: Outcome = "runs, another result"
DOES_NOT_RUN: Outcome = "does not run"
MAX_EXECUTED_SEEDS = 300
MAX_COMPARED_ROWS = 1000  # a longer result is not compared
MAX_STEPS = 2_000_000  # of a query; a join whose condition was exchanged takes any time
_TRIES = 6  # edits of one query that are run at most

_TOKEN = re.compile(r"'[^']*'|\"[^\"]*\"|\d+(?:\.\d+)?|\w+|[<>!]=|<>|\S")
_ORDER_BY = re.compile(r"\border\s+by\b", re.IGNORECASE)
_INNERMOST = re.compile(r"\([^()]*\)")
_OPPOSITES = ("max min", "sum avg", "asc desc", "and or", "< >", "<= >=", "= <>")
_SWAPS = {
    one: other for pair in _OPPOSITES for one, other in (pair.split(), reversed(pair.split()))
}
_KINDS = ("text", "number", "name")
_RESERVED = (
    "select from where group by having order limit offset distinct as on join left inner outer "
    "union all except intersect in not null is like between exists case when then else end count"
)
_KEYWORDS = frozenset(_RESERVED.split())


class Executor:
    """Runs queries beside those of the seeds.

    Args:
        seeds: rows whose targets are right.
        database: a SQLite file; only read.
    """

    def __init__(self, seeds: Sequence[Example], database: Path) -> None:
        self._database = database
        self._queries = dict.fromkeys(seed.target for seed in seeds[:MAX_EXECUTED_SEEDS])
        self._expected: dict[str, _Result] = {}  # of the seeds' queries

    @cached_property
    def _words(self) -> Mapping[str, list[str]]:
        """What may stand in another query's place: literals and names of all seeds, by kind."""
        tokens = dict.fromkeys(it for query in self._queries for it in _TOKEN.findall(query))
        kinds = {kind: [it for it in tokens if _name_kind(it) == kind] for kind in _KINDS}
        return {**kinds, "": []}

    def compare(self, query: str, seed: Example) -> Outcome:
        """What a query does beside the seed's; "" where running decides nothing.

        It decides nothing where the seed's query is not run, fails or returns no row (many a wrong
        one returns none either), where its result is too long to compare, and where one of the two
        takes too long to run.
        """
        truth = seed.target
        expected, fault = self._find_expected(truth)
        if fault or not 0 < len(expected) <= MAX_COMPARED_ROWS:
            return ""
        found, fault = self._run(query)
        if fault:
            return "" if fault == TOO_MANY_STEPS else DOES_NOT_RUN
        is_same = found == expected if _is_sorted(truth) else Counter(found) == Counter(expected)
        return SAME_RESULT if is_same else ANOTHER_RESULT

    def spoil(self, seed: Example, rng: random.Random) -> list[Fault]:
        """The seed with one word of its query exchanged: one that runs, one that does not."""
        made: dict[Outcome, Fault] = {}
        edits = list(dict.fromkeys(self._edit(seed.target, rng)))
        for query in rng.sample(edits, min(_TRIES, len(edits))):
            outcome = self.compare(query, seed)
            if outcome in (ANOTHER_RESULT, DOES_NOT_RUN):
                made.setdefault(outcome, (outcome, (seed.input, query)))
        return list(made.values())

    def _edit(self, query: str, rng: random.Random) -> Iterator[str]:
        """The query with one token exchanged, for each token that can be."""
        for match in _TOKEN.finditer(query):
            token = match[0]
            opposite = _SWAPS.get(token.lower())
            if opposite:
                others = [opposite.upper() if token.isupper() else opposite]
            else:
                others = [word for word in self._words[_name_kind(token)] if word != token]
            if others:
                yield query[: match.start()] + rng.choice(others) + query[match.end() :]

    @property
    def share_running(self) -> float:
        """Of the seeds' queries, those that run."""
        faults = [self._find_expected(query)[1] for query in self._queries]
        return sum(fault in ("", TOO_MANY_STEPS) for fault in faults) / len(faults)

    def _find_expected(self, truth: str) -> _Result:
        if truth not in self._queries:
            return [], "not run"
        if truth not in self._expected:
            self._expected[truth] = self._run(truth)
        return self._expected[truth]

    def _run(self, query: str) -> _Result:
        fault = find_sql_fault(query)
        if fault:
            return [], fault
        # One row more than is compared, so that a longer result is another one.
        most = MAX_COMPARED_ROWS + 1
        return read_rows(query, self._database, most=most, max_steps=MAX_STEPS)


def open_executor(seeds: Sequence[Example], database: Path | None) -> Executor | None:
    """An executor where the seeds' own queries run in the database; else None."""
    if database is None or len(seeds) < MIN_SEEDS:
        return None
    executor = Executor(seeds, database)
    return executor if executor.share_running >= MIN_SHARE else None


def _is_sorted(query: str) -> bool:
    """Whether the order of its result is asked for; what stands in brackets is another's."""
    shorter = _INNERMOST.sub("", query)
    while shorter != query:
        query, shorter = shorter, _INNERMOST.sub("", shorter)
    return _ORDER_BY.search(query) is not None


def _name_kind(token: str) -> str:
    """What a token may be exchanged for: a text, a number, a name, or nothing."""
    if token[0] in "'\"":
        return "text"
    if token[0].isdigit():
        return "number"
    is_name = token.isidentifier()
    return "name" if is_name and token.lower() not in _KEYWORDS else ""
