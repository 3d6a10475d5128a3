"""Answers in JSON or SQL: what does not parse, or does not run, is dropped.

A query that no machine reads teaches nothing, however well it reads to a person. The seeds say
which language it is; where theirs do not pass themselves (another dialect of SQL, fragments),
nothing is judged.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.filters.base import Verdict

MIN_SEEDS = 4  # fewer establish no language
MIN_SHARE = 0.9  # of the seeds that must pass
QUERY_SECONDS = 5.0
MAX_VALUE_BYTES = 16 * 2**20
TOO_MANY_STEPS = "the query takes too many steps"
_STEPS_BETWEEN_LOOKS = 10_000  # of SQLite's machine, a millisecond or so

# What SQLite says of a text that is no SQL; all else it says of tables that it does not have.
_SYNTAX = re.compile(r"syntax error|incomplete input|unrecognized token")
_QUERY = re.compile(r"\s*(select|with|values|insert|update|delete|create)\b", re.IGNORECASE)
_READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}

Check = Callable[[str], str]


class StructuredFilter:
    """Drops a row whose target is not of the seeds' language.

    JSON: it parses, to an object or an array, and has every key that all of the seeds have.
    SQL: SQLite parses it; and where a database is given and the seeds run in it, it runs there.

    Args:
        seeds: training rows; they say which language it is.
        database: a SQLite file; only read.
    """

    name = "structured"

    def __init__(self, seeds: Sequence[Example], database: Path | None = None) -> None:
        self._targets = [seed.target for seed in seeds]
        self._language, self._check = self._choose(database)

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """See `Filter`. The reason has the parser's words."""
        if self._check is None:
            return [Verdict() for _ in rows]
        return [Verdict(self._check(row.target)) for row in rows]

    def describe(self) -> dict[str, object]:
        """See `Filter`; no language where the seeds have none."""
        return {"language": self._language}

    def _choose(self, database: Path | None) -> tuple[str, Check | None]:
        """The first check that the seeds pass themselves."""
        keys = find_common_keys(self._targets)
        checks: dict[str, Check] = {"JSON": lambda text: find_json_fault(text, keys)}
        if database is not None:
            checks["SQL, run"] = lambda text: find_sql_fault(text) or run_query(text, database)
        checks["SQL"] = find_sql_fault
        for language, check in checks.items():
            passed = sum(not check(target) for target in self._targets)
            if len(self._targets) >= MIN_SEEDS and passed >= MIN_SHARE * len(self._targets):
                return language, check
        return "", None


def find_common_keys(texts: Sequence[str]) -> frozenset[str]:
    """The keys that all JSON objects among the texts have."""
    objects = [value for text in texts if isinstance(value := _read_json(text), dict)]
    return frozenset.intersection(*map(frozenset, objects)) if objects else frozenset()


def find_json_fault(text: str, keys: frozenset[str] = frozenset()) -> str:
    """Why a text is no JSON object or array, or which key it lacks; "" for no fault."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        return f"no JSON: {str(exc)[:100]}"
    if not isinstance(value, dict | list):
        return "neither a JSON object nor an array"
    has_keys = value.keys() if isinstance(value, dict) else set()
    missing = sorted(keys - has_keys)
    return f'the key "{missing[0]}" is missing, which all seeds have' if missing else ""


def _read_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def find_sql_fault(text: str) -> str:
    """Why a text is not one SQL statement; "" for no fault."""
    if not _QUERY.match(text):
        return "no SQL statement"
    if _has_several_statements(text):
        return "several SQL statements"
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(f"EXPLAIN {text}")
    except sqlite3.ProgrammingError as exc:  # a null character
        return f"no SQL: {exc}"
    except sqlite3.Error as exc:
        # Of a table, too, which this database does not have: then it has read the whole text.
        return f"no SQL: {str(exc)[:100]}" if _SYNTAX.search(str(exc)) else ""
    finally:
        connection.close()
    return ""


def _has_several_statements(text: str) -> bool:
    ends = (match.end() for match in re.finditer(";", text))
    return any(text[end:].strip() and sqlite3.complete_statement(text[:end]) for end in ends)


def run_query(text: str, database: Path) -> str:
    """Why a query cannot be run in a database; "" where it can. Reads, and nothing else."""
    return read_rows(text, database, most=0)[1]


def read_rows(
    text: str, database: Path, *, most: int, max_steps: float = math.inf
) -> tuple[list[tuple[object, ...]], str]:
    """The first `most` rows of a query's result, and why it does not run; "" where it does.

    It is run to its end, however few rows are wanted: an error may come with the last one.

    Args:
        max_steps: of SQLite's machine, which are the same everywhere, as seconds are not; with
            more the reason is `TOO_MANY_STEPS`.
    """
    # Immutable: no lock or journal file beside it.
    address = f"file:{quote(str(database))}?mode=ro&immutable=1"
    connection = sqlite3.connect(address, uri=True)
    deadline, looks = time.monotonic() + QUERY_SECONDS, itertools.count(1)
    stopped = ""

    def is_over() -> bool:
        nonlocal stopped
        if next(looks) * _STEPS_BETWEEN_LOOKS > max_steps:
            stopped = TOO_MANY_STEPS
        elif time.monotonic() > deadline:
            stopped = f"the query takes longer than {QUERY_SECONDS:g} s"
        return bool(stopped)

    rows: list[tuple[object, ...]] = []
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        connection.set_authorizer(_authorize)
        connection.set_progress_handler(is_over, _STEPS_BETWEEN_LOOKS)
        for row in connection.execute(text):
            if len(rows) < most:
                rows.append(row)
    except sqlite3.Error as exc:
        return [], stopped or f"the query does not run: {str(exc)[:100]}"
    finally:
        connection.close()
    return rows, ""


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    is_allowed = action in _READING and second != "load_extension"
    return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY
