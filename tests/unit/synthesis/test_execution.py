"""Truth by execution: what the quality classifier makes of queries that can be run."""

from __future__ import annotations

import random
import sqlite3
import time
from pathlib import Path

import pytest
from tests.unit.synthesis.conftest import make_example

from loam_api.filters_block import Filters
from loam_runtime.data.examples import Example
from loam_runtime.synthesis.filters import execution
from loam_runtime.synthesis.filters.execution import (
    ANOTHER_RESULT,
    DOES_NOT_RUN,
    SAME_RESULT,
    Executor,
    open_executor,
)
from loam_runtime.synthesis.filters.quality import QualityFilter
from loam_runtime.synthesis.filters.registry import build_judges
from loam_runtime.synthesis.filters.structured import QUERY_SECONDS
from loam_runtime.synthesis.strategies.base import TaskBrief

TOWNS = [(f"town{n}", 1000 * n, f"land{n % 6}") for n in range(1, 25)]
BIG = "SELECT name FROM town WHERE people > 20000"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("towns") / "towns.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE town (name TEXT, people INTEGER, land TEXT)")
        connection.executemany("INSERT INTO town VALUES (?, ?, ?)", TOWNS)
    connection.close()
    return path


def make_seeds(count: int = 60) -> list[Example]:
    """Questions that name a town or a number, which the query must have."""
    rng = random.Random(0)
    seeds = []
    for place in range(count):
        name, people, _ = rng.choice(TOWNS)
        if place % 2:
            made = (
                f"how many people live in {name} , case {place}",
                (f"SELECT people FROM town WHERE name = '{name}'"),
            )
        else:
            made = (
                f"which towns have more than {people - 500} people , case {place}",
                (f"SELECT name FROM town WHERE people > {people - 500}"),
            )
        seeds.append(make_example(*made))
    return seeds


@pytest.mark.parametrize(
    ("query", "outcome"),
    [
        (BIG, SAME_RESULT),
        ("select t.name from town t where t.people >= 21000", SAME_RESULT),
        ("SELECT name FROM town WHERE people > 20000 ORDER BY name DESC", SAME_RESULT),
        ("SELECT name FROM town WHERE people > 21000", ANOTHER_RESULT),
        ("SELECT name, land FROM town WHERE people > 20000", ANOTHER_RESULT),
        ("SELECT name FROM city WHERE people > 20000", DOES_NOT_RUN),
        ("the four largest", DOES_NOT_RUN),
        ("DELETE FROM town", DOES_NOT_RUN),
    ],
)
def test_a_query_is_what_it_returns(database: Path, query: str, outcome: str) -> None:
    """By its words a right query in another form is wrong, and a wrong number nearly right."""
    seed = make_example("the large towns", BIG)
    assert Executor([seed], database).compare(query, seed) == outcome


def test_order_counts_where_it_is_asked_for(database: Path) -> None:
    """The largest first is another answer than the smallest first; of a set it is the same."""
    seed = make_example("towns, the largest first", f"{BIG} ORDER BY people DESC")
    executor = Executor([seed], database)
    assert executor.compare(f"{BIG} ORDER BY people ASC", seed) == ANOTHER_RESULT
    assert executor.compare(f"{BIG} ORDER BY people DESC", seed) == SAME_RESULT


def test_order_inside_of_a_query_is_not_its_own(database: Path) -> None:
    """What is sorted inside of brackets says nothing of the order of the result; a sort by
    something in brackets does."""
    inner = "SELECT name FROM (SELECT name, land FROM town ORDER BY people) WHERE land = 'land1'"
    outer = "SELECT land FROM town GROUP BY land ORDER BY COUNT(*), MAX(people)"
    for truth, outcome in ((inner, SAME_RESULT), (outer, ANOTHER_RESULT)):
        seed = make_example("a question", truth)
        other = truth.replace("people", "people DESC") if truth == inner else f"{truth} DESC"
        assert Executor([seed], database).compare(other, seed) == outcome


@pytest.mark.parametrize("truth", ["SELECT name FROM town WHERE people < 0", "SELECT gone FROM it"])
def test_nothing_is_decided_by_nothing(database: Path, truth: str) -> None:
    """A seed's query that returns no row, or does not run, calls no other query right or wrong:
    nearly every wrong query returns nothing, too."""
    seed = make_example("a question", truth)
    executor = Executor([seed], database)
    assert executor.compare(truth, seed) == ""
    assert executor.compare(BIG, seed) == ""
    assert executor.spoil(seed, random.Random(0)) == []


def test_spoilt_queries_are_what_they_are_called(database: Path) -> None:
    """A "bad" query that returns the right result would teach the opposite; one that keeps to the
    seeds' own words cannot be told by a strange one."""
    seeds = make_seeds(20)
    executor = Executor(seeds, database)
    words = {word for seed in seeds for word in seed.target.split()} | {"<", "<>"}
    made = [(seed, fault) for seed in seeds for fault in executor.spoil(seed, random.Random(1))]
    assert {name for _, (name, _) in made} == {ANOTHER_RESULT, DOES_NOT_RUN}
    for seed, (name, (text, query)) in made:
        assert text == seed.input
        assert executor.compare(query, seed) == name
        assert set(query.split()) <= words


def test_what_takes_too_long_decides_nothing(database: Path) -> None:
    """A join whose condition was exchanged multiplies whole tables: three hundred of them at five
    seconds each would hold a job up for half an hour. Steps are counted, not seconds: two starts
    of a run must learn from the same rows."""
    seed = make_example("the large towns", BIG)
    executor = Executor([seed], database)
    endless = f"SELECT COUNT(*) FROM {', '.join(f'town t{n}' for n in range(9))}"
    started = time.monotonic()
    assert executor.compare(endless, seed) == ""
    assert executor.compare(BIG, make_example("all of them", endless)) == ""
    assert time.monotonic() - started < QUERY_SECONDS
    assert open_executor([make_example(f"{n}", endless) for n in range(4)], database) is not None


def test_only_so_many_queries_are_run(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thousand queries of seconds each would take hours: of the rest their words must do."""
    monkeypatch.setattr(execution, "MAX_EXECUTED_SEEDS", 3)
    first, *_, last = make_seeds(10)
    executor = Executor([first, first, first, last], database)
    assert executor.compare(first.target, first) == SAME_RESULT
    assert executor.compare(last.target, last) == ""


def test_another_database_decides_nothing(database: Path) -> None:
    """Where the seeds themselves do not run, their database is another one."""
    seeds = [make_example(f"question {n}", f"SELECT a FROM elsewhere{n}") for n in range(9)]
    assert open_executor(seeds, database) is None
    assert open_executor(seeds, None) is None
    assert open_executor(make_seeds(9), database) is not None


def test_the_classifier_is_measured_against_execution(database: Path) -> None:
    """The report says how well wrong results are told, on seeds that were not seen; the figure is
    of queries that run, since what does not is dropped before."""
    seeds = make_seeds()
    told = QualityFilter(seeds, 0.5, is_classification=False, database=database).describe()
    assert told["execution"]["right"] == len(seeds)
    assert told["execution"]["another_result"] >= len(seeds)
    bounds = ("auc_lower_bound", "auc", "auc_upper_bound")
    low, auc, high = (told["execution"][name] for name in bounds)
    assert 0.5 < low <= auc <= high
    assert {ANOTHER_RESULT, DOES_NOT_RUN} <= set(told["auc_by_fault"])
    assert f"Against execution, {len(seeds)} queries" in str(told["note"])
    plain = QualityFilter(seeds, 0.5, is_classification=False).describe()
    assert "execution" not in plain


def test_what_wrong_results_pass_drops_nothing(database: Path) -> None:
    """A classifier that tells word salad from SQL and no wrong query from a right one would drop
    good rows for nothing: where truth can be run, it is trusted by that alone."""
    rng = random.Random(0)
    texts = [f"SELECT name FROM town WHERE people > {rng.randrange(1, 24)}500" for _ in range(60)]
    seeds = [make_example(f"what would you like to know , {n}", it) for n, it in enumerate(texts)]
    blind = QualityFilter(seeds, 0.5, is_classification=False).fit
    fit = QualityFilter(seeds, 0.5, is_classification=False, database=database).fit
    assert not blind.is_advisory
    assert fit.auc_low >= 0.7
    assert fit.misses_wrong_queries
    assert fit.is_advisory


def test_the_same_result_is_not_bad(database: Path) -> None:
    """Another row's query that returns the seed's own result is a right answer to it."""
    texts = [
        "SELECT name FROM town WHERE people > 20000",
        "SELECT name FROM town WHERE people>20999",
    ]
    seeds = [make_example(f"towns over twenty thousand, {n}", texts[n % 2]) for n in range(20)]
    faults = QualityFilter(seeds, 0.5, is_classification=False).fit.auc_by_fault
    run = QualityFilter(seeds, 0.5, is_classification=False, database=database).fit.auc_by_fault
    assert "answer of another row" in faults
    assert "answer of another row" not in run


@pytest.mark.parametrize("is_on", [True, False])
def test_the_job_passes_its_database_on(database: Path, is_on: bool) -> None:
    """A database that the filter never hears of leaves the figure out, in silence."""
    brief = TaskBrief(tuple(make_seeds(12)), is_classification=False, database=database)
    settings = Filters(structured={"enabled": is_on})
    *_, quality = build_judges(brief, settings, held_out={}, quality_threshold=0.5)
    assert ("execution" in quality.describe()) is is_on
