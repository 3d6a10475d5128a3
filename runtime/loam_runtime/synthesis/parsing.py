"""From what a teacher wrote to the values it meant.

Teachers think aloud, wrap JSON in fences, talk around it, and are cut off in the middle. What
can be read with certainty is read; the rest is the caller's to reject, row by row.
"""

from __future__ import annotations

import json
import re
from typing import Any

from loam_runtime.data.normalize import mend_surrogates
from loam_runtime.synthesis.exchange import LABEL_KEY

_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_OPEN_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*\Z", re.DOTALL | re.IGNORECASE)
_CLOSED_THOUGHT = re.compile(r"\A.*?</(think|thinking|reasoning)>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_LIST_MARK = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.)])(?:\s+|$)")


def strip_thinking(text: str) -> str:
    """The text without its thinking, also where only one of the two tags was written."""
    text = _THOUGHT.sub("", mend_surrogates(text))
    text = _CLOSED_THOUGHT.sub("", text)
    return _OPEN_THOUGHT.sub("", text).strip()


def parse_objects(text: str, *, is_complete: bool = True) -> list[dict[str, Any]]:
    """The JSON objects of an answer: of one list, of one object, or of an object holding a list.

    Args:
        text: as the teacher wrote it.
        is_complete: False for an answer that was cut off. Its last object may be half a row and
            is left out; those before it are whole.

    Returns:
        Objects in order; empty where there are none to read.
    """
    answer = _unwrap_fence(strip_thinking(text))
    start = _find_start(answer)
    if start < 0:
        return []
    body = answer[start:]
    value, is_strict = _decode(body)
    objects = _collect_objects(value)
    if not is_strict and _is_cut(body, is_complete):
        return objects[:-1]
    return objects


def parse_label(text: str, *, is_complete: bool = True) -> str:
    """What an answer chose of the choices that it was given: as JSON, or as its bare text.

    Args:
        is_complete: see `parse_objects`.
    """
    answer = strip_thinking(text)
    found = parse_objects(answer, is_complete=is_complete)
    said = str(found[0].get(LABEL_KEY, "")) if found else answer
    return said.strip().strip("\"'`.").strip()


def parse_lines(text: str, *, is_complete: bool = True) -> list[str]:
    """The items of a list that a model continued, without bullets and numbers.

    The first line is the item the prompt began, unless it announces a list; the ones after it
    count as long as they go on with the list. An answer that was cut off loses its last line.
    """
    lines = [line for line in strip_thinking(text).splitlines() if line.strip()]
    if not is_complete:
        lines = lines[:-1]
    if len(lines) > 1 and lines[0].rstrip().endswith(":") and _LIST_MARK.match(lines[1]):
        lines = lines[1:]
    items: list[str] = []
    for line in lines:
        if items and not _LIST_MARK.match(line):
            break
        items.append(_LIST_MARK.sub("", line).strip().strip('"').strip())
    return [item for item in items if item]


def _unwrap_fence(text: str) -> str:
    match = _FENCE.search(text)
    return match[1].strip() if match else text


def _find_start(text: str) -> int:
    found = [place for place in (text.find("["), text.find("{")) if place >= 0]
    return min(found, default=-1)


def _decode(body: str) -> tuple[Any, bool]:
    """The first JSON value of a text, and whether it was well-formed."""
    try:
        return json.JSONDecoder().raw_decode(body)[0], True
    except ValueError:
        import json_repair

        return json_repair.loads(body), False


def _collect_objects(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [item for item in value if isinstance(item, dict)]
    if not isinstance(value, dict):
        return []
    # {"examples": [{...}, ...]}: some endpoints insist on one object.
    if len(value) == 1:
        (inner,) = value.values()
        if isinstance(inner, list) and any(isinstance(item, dict) for item in inner):
            return _collect_objects(inner)
    return [value]


def _is_cut(body: str, is_complete: bool) -> bool:
    """Whether the text ends inside a value: declared by the endpoint, or seen in its brackets."""
    return not is_complete or body.rstrip()[-1:] not in ("]", "}")
