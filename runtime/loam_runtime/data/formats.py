"""Which columns of a file hold what: the row formats, and how one is recognised.

A `Layout` says which column plays which role. The user's `data.fields` come first, then a
column that bears the role's own name, then its usual aliases.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loam_runtime.errors import InputError

if TYPE_CHECKING:
    from loam_api.finetunejob import DataSpec, FieldMapping

REQUIRED_ROLES = {
    "textLabel": ("text", "label"),
    "promptCompletion": ("prompt", "completion"),
    "chat": ("messages",),
    "chosenRejected": ("chosen", "rejected"),
    "text": ("text",),
}
# A preference row may carry its prompt inside the answers, as chat messages.
OPTIONAL_ROLES = {
    "chosenRejected": ("prompt",),
    "textLabel": ("rationale",),
    "promptCompletion": ("rationale",),
}
# A role's own name first: where it is present, the others are not looked at.
ALIASES = {
    "text": ("text", "sentence", "input"),
    "label": ("label", "category", "intent", "class"),
    "prompt": ("prompt", "question", "instruction", "document", "input"),
    "completion": (
        "completion", "answer", "response", "output", "summary", "target", "query",
    ),
    "messages": ("messages", "conversation", "conversations"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "rationale": ("rationale",),
}  # fmt: skip
# Columns that are part of the prompt where the prompt is a question or an instruction.
JOINING_PROMPTS = ("question", "instruction")
JOINED_BEFORE = ("context", "passage")
JOINED_AFTER = ("input",)
# The formats that serve a task, by rank: two that fit in one rank are ambiguous.
FORMATS_BY_TASK = {
    "classification": (("textLabel",), ("chat", "promptCompletion")),
    "generation": (("chosenRejected",), ("chat", "promptCompletion"), ("textLabel",)),
    "extraction": (("chosenRejected",), ("chat", "promptCompletion"), ("textLabel",)),
    "summarization": (("chosenRejected",), ("chat", "promptCompletion"), ("textLabel",)),
    "text": (("text",),),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of one row format.

    Attributes:
        row_format: a key of `REQUIRED_ROLES`.
        columns: column by role; an optional role may be absent.
        before, after: columns joined to the prompt, before and after it; their cells may be empty.
        group: column of the group, "" for none.
    """

    row_format: str
    columns: dict[str, str]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    group: str = ""


def detect_layout(columns: Collection[str], data: DataSpec, file: str) -> Layout:
    """The layout of a file with these columns; `file` is named in messages.

    Raises:
        InputError: no format fits, several do, or a column named in `data.fields` is absent.
    """
    _check_mapping(columns, data.fields, file)
    ranks = _rank_formats(data)
    for rank in ranks:
        fitting = [name for name in rank if _find_roles(name, columns, data.fields)]
        if len(fitting) > 1:
            raise InputError(
                f"{file} fits the formats {' and '.join(fitting)}, by its columns "
                f"{_list_names(columns)}.",
                remedy=f"Choose with data.rowFormat: {' or '.join(fitting)}.",
            )
        if fitting:
            return _build_layout(fitting[0], columns, data.fields, file)
    raise _explain_misfit(columns, [name for rank in ranks for name in rank], data, file)


def _rank_formats(data: DataSpec) -> tuple[tuple[str, ...], ...]:
    """The formats to try: the one named, the one whose roles are mapped, or the task's."""
    if data.row_format != "auto":
        return ((data.row_format,),)
    named = [
        row_format
        for row_format, roles in REQUIRED_ROLES.items()
        if any(getattr(data.fields, role) for role in roles if role not in ("text", "prompt"))
    ]
    if len(named) > 1:
        raise InputError(
            f"data.fields names columns of several formats: {' and '.join(named)}.",
            remedy="Choose with data.rowFormat, or name the columns of one format.",
        )
    return (tuple(named),) if named else FORMATS_BY_TASK[data.task]


def _check_mapping(columns: Collection[str], mapping: FieldMapping, file: str) -> None:
    for role, column in mapping.model_dump(exclude={"group"}).items():
        if column and column not in columns:
            raise InputError(
                f"data.fields.{role} names the column {column!r}, but {file} has "
                f"{_list_names(columns)}.",
                remedy="Correct the name in data.fields.",
            )


def _find_roles(
    row_format: str, columns: Collection[str], mapping: FieldMapping
) -> dict[str, list[str]]:
    """The columns that could play each role; {} where a required role has none."""
    required = REQUIRED_ROLES[row_format]
    roles = {
        role: _find_columns(role, columns, mapping)
        for role in (*required, *OPTIONAL_ROLES.get(row_format, ()))
    }
    return roles if all(roles[role] for role in required) else {}


def _find_columns(role: str, columns: Collection[str], mapping: FieldMapping) -> list[str]:
    named = getattr(mapping, role)
    if named:
        return [named]
    aliases = ALIASES[role]
    if aliases[0] in columns:
        return [aliases[0]]
    found = [alias for alias in aliases if alias in columns]
    if role == "prompt" and any(name in columns for name in JOINING_PROMPTS):
        found = [name for name in found if name not in JOINED_AFTER]
    return found


def _build_layout(
    row_format: str, columns: Collection[str], mapping: FieldMapping, file: str
) -> Layout:
    chosen: dict[str, str] = {}
    for role, candidates in _find_roles(row_format, columns, mapping).items():
        if len(candidates) > 1:
            raise InputError(
                f"{file} has several columns that could be its {role}: {_list_names(candidates)}.",
                remedy=f"Name the one to use in data.fields.{role}.",
            )
        if candidates:
            chosen[role] = candidates[0]
    # A prompt column that the user named is taken as it is.
    joins = chosen.get("prompt") in JOINING_PROMPTS and not mapping.prompt
    return Layout(
        row_format=row_format,
        columns=chosen,
        before=tuple(name for name in JOINED_BEFORE if joins and name in columns),
        after=tuple(name for name in JOINED_AFTER if joins and name in columns),
        group=mapping.group,
    )


def _explain_misfit(
    columns: Collection[str], tried: list[str], data: DataSpec, file: str
) -> InputError:
    needs = "; ".join(
        f"{name} needs "
        + " and ".join(f"{role} ({' | '.join(ALIASES[role])})" for role in REQUIRED_ROLES[name])
        for name in tried
    )
    roles = ", ".join(f"{role}: <column>" for role in REQUIRED_ROLES[tried[0]])
    return InputError(
        f"The columns of {file} are {_list_names(columns)}; no format for the task "
        f"{data.task} fits: {needs}.",
        remedy=f"Name the columns: data.fields: {{{roles}}}.",
    )


def _list_names(names: Collection[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
