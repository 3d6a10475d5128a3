"""Judges the cross-field rules of a manifest even where other fields of it are wrong.

Pydantic runs a block's rules only once everything in the block is valid, so a misspelt field
would hide a broken rule until the next try. Here the rules look at the document through a
view that answers with the written value or the default; a rule that would need a field which
is missing or of the wrong type is left undecided, for that field is reported anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from loam_api.base import ApiModel
from loam_api.problems import Problem, show_value


class _Undecidable(Exception):
    """A rule asked for a field that has no valid value."""


class _View:
    """Reads the attributes of a block from a document that may be wrong in places."""

    def __init__(self, model: type[ApiModel], raw: dict[str, Any]) -> None:
        self._model = model
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        field = self._model.model_fields[name]
        if field.alias not in self._raw:
            if field.is_required():
                raise _Undecidable
            return field.get_default(call_default_factory=True)
        raw = self._raw[field.alias]
        block = get_block(field)
        if block is not None:
            if not isinstance(raw, dict):
                raise _Undecidable
            return _View(block, raw)
        return _read_value(field, raw)


def _read_value(field: FieldInfo, raw: Any) -> Any:
    adapter = TypeAdapter(field.rebuild_annotation())
    try:
        return adapter.validate_python(raw, strict=True)
    except ValidationError:
        raise _Undecidable from None


def get_block(field: FieldInfo) -> type[ApiModel] | None:
    """The model of a field that holds a block, optional or not; None for any other field."""
    if get_origin(field.annotation) is list:
        return None
    kinds = [kind for kind in get_args(field.annotation) if kind is not NoneType]
    kind = kinds[0] if len(kinds) == 1 else field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, ApiModel) else None


def get_entry_block(field: FieldInfo) -> type[ApiModel] | None:
    """The model of the entries of a field that holds a list of blocks; None for any other."""
    kinds = get_args(field.annotation) if get_origin(field.annotation) is list else ()
    kind = kinds[0] if kinds else None
    return kind if isinstance(kind, type) and issubclass(kind, ApiModel) else None


def find_broken_rules(model: type[ApiModel], raw: Any, path: str) -> Iterator[Problem]:
    """Yields a problem for every rule of the block, and of all blocks in it, that is broken."""
    if not isinstance(raw, dict):
        return
    for rule in model.rules:
        try:
            is_broken = not rule.holds(_View(model, raw))
        except _Undecidable:
            continue
        if is_broken:
            place = f"{path}.{rule.field}"
            yield Problem(place, _show_field(place, raw, rule.field), rule.message)
    for field in model.model_fields.values():
        child = raw.get(field.alias)
        if (block := get_block(field)) is not None:
            yield from find_broken_rules(block, child, f"{path}.{field.alias}")
        elif (entry := get_entry_block(field)) is not None and isinstance(child, list):
            for index, one in enumerate(child):
                yield from find_broken_rules(entry, one, f"{path}.{field.alias}[{index}]")


def _show_field(path: str, raw: dict[str, Any], field: str) -> str:
    value: Any = raw
    for step in field.split("."):
        if not isinstance(value, dict) or step not in value:
            return ""
        value = value[step]
    return show_value(path, value)
