"""From a file's row to an `Example`, or to the reason why it cannot be one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from loam_runtime.data.examples import Example, Origin, Turn, compute_example_id
from loam_runtime.data.files import RawRow
from loam_runtime.data.formats import Layout
from loam_runtime.data.normalize import clean_text, collapse_spaces, has_visible_text

# Characters of a row, all its texts together: about 30,000 words. A longer one is nearly always
# a file that was read the wrong way, and one such row sets the memory of a training step.
MAX_ROW_CHARS = 150_000

_KINDS = {
    dict: "an object",
    list: "a list",
    bool: "true or false",
    int: "a number",
    float: "a number",
}


class RowError(ValueError):
    """Why a row cannot be used."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """The texts of a row, before they have an identity."""

    input: str
    target: str
    context: tuple[Turn, ...] = ()
    rejected: str = ""
    rationale: str = ""

    def iterate_texts(self) -> Iterator[str]:
        yield from (self.input, self.target, self.rejected, self.rationale)
        yield from (turn.content for turn in self.context)


def build_example(raw: RawRow, layout: Layout, *, is_label: bool, origin: Origin) -> Example:
    """The example that a row holds.

    Args:
        is_label: whether the target is a label: one line, numbers welcome.

    Raises:
        RowError: a field is missing, empty, of the wrong type, not text, or the row is too long.
    """
    parts = READERS[layout.row_format](raw.values, layout)
    _check_length(parts)
    target = collapse_spaces(parts.target) if is_label else parts.target
    rest = [parts.rejected, *(f"{turn.role}\x1e{turn.content}" for turn in parts.context)]
    return Example(
        id=compute_example_id(parts.input, target, "\x1f".join(rest) if any(rest) else ""),
        input=parts.input,
        target=target,
        context=parts.context,
        rejected=parts.rejected,
        rationale=parts.rationale,
        group=_read_group(raw.values.get(layout.group)),
        origin=origin,
        source=f"{raw.file}:{raw.row}",
    )


def _read_text_label(values: dict[str, Any], layout: Layout) -> _Parts:
    text = _read_text(values, layout.columns["text"])
    answer = _read_answer(values, layout.columns["label"])
    return _Parts(text, answer, rationale=_read_rationale(values, layout))


def _read_prompt_completion(values: dict[str, Any], layout: Layout) -> _Parts:
    answer = _read_answer(values, layout.columns["completion"])
    prompt = _read_prompt(values, layout)
    return _Parts(prompt, answer, rationale=_read_rationale(values, layout))


def _read_chat(values: dict[str, Any], layout: Layout) -> _Parts:
    *context, user, answer = _read_turns(values, layout.columns["messages"])
    return _Parts(user.content, answer.content, tuple(context))


def _read_chosen_rejected(values: dict[str, Any], layout: Layout) -> _Parts:
    chosen, rejected = layout.columns["chosen"], layout.columns["rejected"]
    if isinstance(values.get(chosen), list):
        *context, user, answer = _read_turns(values, chosen)
        refused = _read_turns(values, rejected)[-1]
        return _Parts(user.content, answer.content, tuple(context), refused.content)
    if "prompt" not in layout.columns:
        raise RowError(f"the field {chosen!r} is text, and there is no field with its prompt")
    prompt = _read_prompt(values, layout)
    return _Parts(prompt, _read_text(values, chosen), (), _read_text(values, rejected))


def _read_plain_text(values: dict[str, Any], layout: Layout) -> _Parts:
    return _Parts("", _read_text(values, layout.columns["text"]))


READERS: dict[str, Callable[[dict[str, Any], Layout], _Parts]] = {
    "textLabel": _read_text_label,
    "promptCompletion": _read_prompt_completion,
    "chat": _read_chat,
    "chosenRejected": _read_chosen_rejected,
    "text": _read_plain_text,
}


def _read_prompt(values: dict[str, Any], layout: Layout) -> str:
    """The prompt with the columns that are joined to it, a blank line between each two."""
    before = [_read_text(values, name, may_be_empty=True) for name in layout.before]
    after = [_read_text(values, name, may_be_empty=True) for name in layout.after]
    texts = [*before, _read_text(values, layout.columns["prompt"]), *after]
    return "\n\n".join(text for text in texts if text)


def _read_rationale(values: dict[str, Any], layout: Layout) -> str:
    """Why the answer is right; rows may do without."""
    column = layout.columns.get("rationale")
    return _read_text(values, column, may_be_empty=True) if column else ""


def _read_answer(values: dict[str, Any], column: str) -> str:
    """A label or completion; numbers and truth values become text."""
    value = values.get(column)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return str(int(value))  # what tables make of integers once a cell is empty
    if isinstance(value, int | float) and math.isfinite(value):
        return str(value)
    return _read_text(values, column)


def _read_text(values: dict[str, Any], column: str, *, may_be_empty: bool = False) -> str:
    value = values.get(column)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        if may_be_empty:
            return ""
        raise RowError(f"the field {column!r} is {'null' if column in values else 'missing'}")
    if not isinstance(value, str):
        raise RowError(f"the field {column!r} is {_KINDS.get(type(value), 'no text')}, not text")
    return _check_text(value, f"the field {column!r}", may_be_empty=may_be_empty)


def _check_text(value: str, name: str, *, may_be_empty: bool = False) -> str:
    """The cleaned text. `name` says in messages which one it is."""
    if "\x00" in value:
        raise RowError(f"{name} holds a NUL character")
    text = clean_text(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise RowError(f"{name} is not Unicode: half a surrogate pair at {exc.start + 1}") from exc
    if not has_visible_text(text):
        if may_be_empty:
            return ""
        raise RowError(f"{name} {'holds white space only' if value else 'is empty'}")
    return text


def _read_turns(values: dict[str, Any], column: str) -> list[Turn]:
    """The turns of a conversation that ends in a user's question and an assistant's answer."""
    messages = values.get(column)
    if isinstance(messages, str):  # as a cell of a CSV file holds it
        try:
            messages = json.loads(messages)
        except ValueError as exc:
            raise RowError(f"the field {column!r} is text, and not a JSON list") from exc
    if not isinstance(messages, list) or not messages:
        raise RowError(f"the field {column!r} is not a list of messages")
    turns = [_read_turn(message, number) for number, message in enumerate(messages, start=1)]
    _check_order([turn.role for turn in turns])
    return turns


def _read_turn(message: Any, number: int) -> Turn:
    if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
        raise RowError(f"message {number} has no role and content")
    role, content = message["role"], message["content"]
    if role not in ("system", "user", "assistant"):
        raise RowError(f"message {number} has the role {role!r}, not system, user or assistant")
    if not isinstance(content, str):
        raise RowError(f"the content of message {number} is not text")
    return Turn(role, _check_text(content, f"the content of message {number}"))


def _check_order(roles: list[str]) -> None:
    spoken = roles[1:] if roles[0] == "system" else roles
    if not spoken or spoken[-1] != "assistant":
        raise RowError("the last message is not the assistant's")
    expected = ["user", "assistant"] * (len(spoken) // 2)
    if spoken != expected:
        raise RowError("the messages do not alternate between user and assistant, user first")


def _check_length(parts: _Parts) -> None:
    num_characters = sum(map(len, parts.iterate_texts()))
    if num_characters > MAX_ROW_CHARS:
        num_words = sum(len(text.split()) for text in parts.iterate_texts())
        raise RowError(
            f"{num_words:,} words ({num_characters:,} characters), "
            f"over the bound of {MAX_ROW_CHARS:,} characters"
        )


def _read_group(value: Any) -> str:
    return "" if value is None else clean_text(str(value))
