"""How a teacher is asked to write several rows down, and how they are read back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from loam_runtime.synthesis.parsing import parse_objects, strip_thinking

_EXAMPLE = re.compile(r"<example>(.*?)(?:</example>|(?=<example>)|\Z)", re.DOTALL)


class AnswerForm(Protocol):
    """The written form of rows.

    Attributes:
        system: the system message of every request.
        missing: the reason for an answer in which no row was found.
    """

    system: str
    missing: str

    def show(self, rows: Sequence[Mapping[str, str]]) -> str:
        """Rows as the teacher shall write them."""

    def describe(self, num_rows: int, keys: Sequence[str]) -> str:
        """The sentence that asks for this form."""

    def parse(self, text: str, *, is_complete: bool) -> list[dict[str, Any]]:
        """The rows of an answer; of one that was cut off, those before the last."""


class JsonForm:
    """A JSON list of objects."""

    system = (
        "You write training data for a machine learning model. You answer with JSON alone: no "
        "comments, no code fences, nothing before or after it."
    )
    missing = "no JSON object"

    def show(self, rows: Sequence[Mapping[str, str]]) -> str:
        """See `AnswerForm`."""
        return json.dumps(rows, indent=1)

    def describe(self, num_rows: int, keys: Sequence[str]) -> str:
        """See `AnswerForm`."""
        named = _join_names([json.dumps(key) for key in keys])
        plural = "s" if len(keys) > 1 else ""
        return f"Answer with a JSON list of {num_rows} objects with the key{plural} {named}."

    def parse(self, text: str, *, is_complete: bool) -> list[dict[str, Any]]:
        """See `AnswerForm`."""
        return parse_objects(text, is_complete=is_complete)


class TagForm:
    """Tags around each part: what "An efficient strategy for fine-tuning" asks its teacher for.

    Reasoning and queries are full of quotes, braces and line ends, which tags need not escape.
    """

    system = (
        "You are an expert at the task below. For each example you first explain your "
        "step-by-step reasoning (rationale), then you give the final answer."
    )
    missing = "no tagged example"

    def show(self, rows: Sequence[Mapping[str, str]]) -> str:
        """See `AnswerForm`."""
        return "\n".join(_tag(row) for row in rows)

    def describe(self, num_rows: int, keys: Sequence[str]) -> str:
        """See `AnswerForm`."""
        hints = {"rationale": "Step-by-step explanation here", "answer": "Final answer here"}
        form = _tag({key: hints.get(key, f"The {key} here") for key in keys})
        return f"Write each example in this form, and nothing else:\n{form}"

    def parse(self, text: str, *, is_complete: bool) -> list[dict[str, Any]]:
        """See `AnswerForm`. Without the outer tag, the whole answer is one example."""
        answer = strip_thinking(text)
        blocks = _EXAMPLE.findall(answer) or [answer]
        rows = [_read_tags(block) for block in blocks]
        if not is_complete and not answer.rstrip().endswith("</example>"):
            rows = rows[:-1]
        return [row for row in rows if row]


def _tag(row: Mapping[str, str]) -> str:
    parts = "\n".join(f"<{key}>{value}</{key}>" for key, value in row.items())
    return f"<example>\n{parts}\n</example>"


def _read_tags(block: str) -> dict[str, Any]:
    found = re.findall(r"<(input|rationale|answer)>(.*?)</\1>", block, re.DOTALL)
    return {key: value.strip() for key, value in found}


def _join_names(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
