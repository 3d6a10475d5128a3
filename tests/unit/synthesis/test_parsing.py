"""Reading what teachers write."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam_runtime.synthesis.parsing import parse_lines, parse_objects, strip_thinking

ROWS = [{"input": "a", "output": "1"}, {"input": "b", "output": "2"}]
TEXT = json.dumps(ROWS)


@pytest.mark.parametrize(
    "answer",
    [
        TEXT,
        f"Sure, here you are:\n{TEXT}\nAnything else?",
        f"```json\n{TEXT}\n```",
        f"<think>[{{'not': 'this'}}]</think>\n{TEXT}",
        f"half of the thinking [1]</think>{TEXT}",
        json.dumps({"examples": ROWS}),
        TEXT.replace('"', "'"),
        TEXT.replace("}]", "},]"),
    ],
)
def test_dressed_answers(answer: str) -> None:
    """However the list is dressed, its rows are read; else paid answers are thrown away."""
    assert parse_objects(answer) == ROWS


def test_single_object() -> None:
    """One object where a list was asked for is one row."""
    assert parse_objects('{"input": "a", "output": "1"}') == ROWS[:1]


def test_thinking_alone() -> None:
    """Thinking that was never closed holds no rows, even if it drafts some."""
    assert parse_objects(f"<think>I could write {TEXT}") == []


@pytest.mark.parametrize("cut", range(1, len(TEXT)))
def test_truncated_list(cut: int) -> None:
    """A list cut anywhere yields whole rows only: a repaired half row would look real."""
    rows = parse_objects(TEXT[:cut], is_complete=False)
    assert rows == ROWS[: len(rows)]


def test_truncated_list_without_notice() -> None:
    """A server that does not report the cut must not make a half row pass."""
    assert parse_objects(TEXT[:-8]) == ROWS[:1]


@given(st.text(max_size=200))
def test_any_text_is_survived(answer: str) -> None:
    """No answer of a teacher can end the run."""
    assert all(isinstance(value, dict) for value in parse_objects(answer))
    assert all(line.strip() for line in parse_lines(answer))


@given(
    st.lists(st.fixed_dictionaries({"input": st.text(min_size=1), "output": st.text()}), max_size=5)
)
def test_round_trip(rows: list[dict[str, str]]) -> None:
    """Well-formed JSON comes back as it was, whatever its strings hold."""
    wanted = [row for row in rows if "</think" not in str(row).lower()]
    if wanted == rows and "<think" not in str(rows).lower() and "```" not in str(rows):
        assert parse_objects(json.dumps(rows)) == rows


def test_thinking_is_stripped_everywhere() -> None:
    """Both tags, the closing one alone, the opening one alone."""
    assert strip_thinking("<think>a</think>x") == "x"
    assert strip_thinking("a</think>x") == "x"
    assert strip_thinking("x<think>a") == "x"


@pytest.mark.parametrize(
    ("answer", "items"),
    [
        (" a fine film", ["a fine film"]),
        (" one\n- two\n- three", ["one", "two", "three"]),
        (" one\n\nExamples of another class:\n- two", ["one"]),
        ("Here are more:\n- one\n- two", ["one", "two"]),
        ('1. "quoted"', ["quoted"]),
        ("-", []),
        ("", []),
    ],
)
def test_list_items(answer: str, items: list[str]) -> None:
    """The list the prompt began goes on until another text starts: rows of another class that
    a base model invents next must not get this class's label."""
    assert parse_lines(answer) == items


def test_cut_line_is_dropped() -> None:
    """A line cut at max_tokens is half an example."""
    assert parse_lines(" whole\n- ha", is_complete=False) == ["whole"]
