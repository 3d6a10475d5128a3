"""What a writer probably meant: near names, near values, and fields that live elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from loam_api.schema import Schema


def suggest_field(name: str, block: Schema, root: Schema) -> str:
    """A field of the block with a similar name, else one of that name in another block."""
    near = _find_near(name, list(block.get("properties", {})))
    if near:
        return f'did you mean "{near}"?'
    wanted = _normalize(name)
    elsewhere = [
        path for path in _walk_paths(root) if _normalize(path.rpartition(".")[2]) == wanted
    ]
    return f"did you mean {elsewhere[0]}?" if elsewhere else ""


def suggest_value(value: Any, node: Schema) -> str:
    """The choice that a misspelt one is near to, if the field is a choice."""
    near = _find_near(str(value), [str(choice) for choice in node.get("enum", [])])
    return f'did you mean "{near}"?' if near else ""


def _find_near(word: str, choices: list[str]) -> str:
    by_normal = {_normalize(choice): choice for choice in choices}
    matches = get_close_matches(_normalize(word), by_normal, n=1, cutoff=0.7)
    return by_normal[matches[0]] if matches else ""


def _normalize(name: str) -> str:
    # So that snake_case, kebab-case and wrong capitals count as spelt right.
    return name.replace("_", "").replace("-", "").lower()


def _walk_paths(schema: Schema, prefix: str = "") -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        if prefix or name == "spec":
            yield f"{prefix}{name}"
            yield from _walk_paths(child, f"{prefix}{name}.")
