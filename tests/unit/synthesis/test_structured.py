"""Answers in JSON or SQL: what no machine could read is dropped, and nothing else."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.synthesis.conftest import make_example

from loam_runtime.errors import InputError
from loam_runtime.synthesis.database import fetch_database
from loam_runtime.synthesis.filters import structured
from loam_runtime.synthesis.filters.registry import read_settings
from loam_runtime.synthesis.filters.structured import (
    StructuredFilter,
    find_json_fault,
    find_sql_fault,
    run_query,
)

QUERIES = (
    "SELECT name FROM city WHERE population > 100000",
    "select count(*) from city",
    "SELECT name FROM city ORDER BY population DESC LIMIT 1;",
    "WITH big AS (SELECT * FROM city) SELECT name FROM big",
)
MEETINGS = [json.dumps({"day": day, "minutes": 30}) for day in ("mon", "tue", "wed", "thu")]


def build_filter(targets: tuple[str, ...] | list[str], database: Path | None = None):
    seeds = [make_example(f"question {place}", target) for place, target in enumerate(targets)]
    return StructuredFilter(seeds, database)


def judge(filter_: StructuredFilter, target: str) -> str:
    return filter_.judge([make_example("a new question", target)])[0].reason


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "geo.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE city (name TEXT, population INTEGER)")
        connection.execute("INSERT INTO city VALUES ('Ulm', 126000)")
    connection.close()
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"day": "mon", "minutes": 30', "no JSON"),
        ("on Monday", "no JSON"),
        ('"mon"', "neither a JSON object nor an array"),
        ('{"day": "mon"}', 'the key "minutes" is missing'),
        ("[]", 'the key "day" is missing'),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_json_that_cannot_be_used(text: str, words: str):
    """Trained on, half an object teaches to stop in the middle, and a lost key to lose it."""
    filter_ = build_filter(MEETINGS)
    assert filter_.describe() == {"language": "JSON"}
    assert words in judge(filter_, text)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_json_with_the_seeds_keys_stays(more: dict[str, object]):
    """A seed's keys are the least, not all that there may be: "notes" is no fault."""
    text = json.dumps({**more, "day": "fri", "minutes": 15})
    assert find_json_fault(text, frozenset({"day", "minutes"})) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELECT name FROM", "incomplete input"),
        ("SELEC name FROM city", "no SQL statement"),
        ("SELECT name FORM city", "syntax error"),
        ("SELECT 'Ulm FROM city", "unrecognized token"),
        ("The answer is: SELECT name FROM city", "no SQL statement"),
        ("SELECT name FROM city; DROP TABLE city", "several SQL statements"),
        ("SELECT 1\0", "null character"),
        ("", "no SQL statement"),
    ],
)
def test_sql_that_does_not_parse(text: str, words: str):
    """Without a database nothing but the grammar can be known, and that must be."""
    filter_ = build_filter(QUERIES)
    assert filter_.describe() == {"language": "SQL"}
    assert words in judge(filter_, text)


@pytest.mark.parametrize("text", [*QUERIES, "SELECT ';' FROM a JOIN b USING (id)", "VALUES (1)"])
def test_sql_that_parses_stays(text: str):
    """Tables that are not there are no fault: there is no database to know them by."""
    assert find_sql_fault(text) == ""


def test_a_query_must_run_where_there_is_a_database(database: Path):
    """Fluent SQL over a column that was made up is the commonest fault of a teacher."""
    filter_ = build_filter(QUERIES, database)
    assert filter_.describe() == {"language": "SQL, run"}
    assert judge(filter_, "SELECT population FROM city") == ""
    assert "no such column: mayor" in judge(filter_, "SELECT mayor FROM city")
    assert "syntax error" in judge(filter_, "SELECT name FORM city")


def test_seeds_that_do_not_run_take_the_database_back(database: Path):
    """They are right by definition: then it is the database that is another one."""
    filter_ = build_filter([f"SELECT a FROM other WHERE b = {n}" for n in range(5)], database)
    assert filter_.describe() == {"language": "SQL"}
    assert judge(filter_, "SELECT mayor FROM city") == ""


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM city",
        "DROP TABLE city",
        "INSERT INTO city VALUES ('x', 1)",
        "ATTACH DATABASE 'other.sqlite' AS other",
        "PRAGMA writable_schema = 1",
        "SELECT load_extension('x')",
        "VACUUM INTO 'copy.sqlite'",
    ],
)
def test_a_query_does_nothing_but_read(
    database: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A teacher's words are nobody's orders: they must not change a file, nor write another."""
    monkeypatch.chdir(tmp_path)
    before = database.read_bytes()
    assert "does not run" in run_query(text, database)
    assert database.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [database.name]


def test_a_query_without_end_is_stopped(database: Path, monkeypatch: pytest.MonkeyPatch):
    """One such row would hold up the synthesis of all others."""
    monkeypatch.setattr(structured, "QUERY_SECONDS", 0.2)
    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    )
    assert "takes longer than 0.2 s" in run_query(endless, database)


@pytest.mark.parametrize(
    "targets",
    [
        ("Monday at ten", "Tuesday", "no time", "at noon, please"),
        tuple(MEETINGS[:3]),
        (*MEETINGS[:2], "mon", "tue"),
        ("SELECT TOP 1 a FROM b", "SELECT a FROM b LIMIT 1 BY c", "SELECT [", "MATCH (n)"),
    ],
    ids=["prose", "too few", "mixed", "another dialect"],
)
def test_other_answers_are_not_judged(targets: tuple[str, ...]):
    """Where the seeds do not pass themselves, the rule would drop what is right."""
    filter_ = build_filter(targets)
    assert filter_.describe() == {"language": ""}
    assert judge(filter_, "{no SQL either") == ""


def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    """By its field, before a teacher is paid: SQLite would say so of every row."""
    path = tmp_path / "dump.sql"
    path.write_text("CREATE TABLE city (name TEXT);")
    settings = read_settings({"structured": {"database": {"uri": f"file://{path}"}}})
    with pytest.raises(InputError, match=r"filters\.structured\.database\.uri.*no SQLite file"):
        fetch_database(settings)
    assert fetch_database(read_settings({})) is None
