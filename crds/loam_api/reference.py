"""The API reference, docs/api.md: one table a block, from the same schema as the CRD."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydantic import BaseModel

from loam_api.base import MUTABLE
from loam_api.finetunejob import API_GROUP, API_VERSION, FineTuneJob
from loam_api.finetuneprofile import FineTuneProfile
from loam_api.schema import Schema, build_schema
from loam_api.words import describe_accepted

_INTRO = f"""\
# API reference

`apiVersion: {API_GROUP}/{API_VERSION}`. Written by `crds/write_crds.py`; do not edit.

Unknown fields are refused by `loam validate`, and by the API server for a client that asks for it
(`kubectl apply --validate=strict`); a lax client's are dropped there. A field that is left out has
its default.

- [FineTuneJob](#finetunejob): one run, written by a user of the platform.
- [FineTuneProfile](#finetuneprofile): rules for such runs, written by the platform's team.
"""

_ABOUT: dict[type[BaseModel], str] = {
    FineTuneJob: "Namespaced. `spec` cannot be changed once applied, but for what is marked *may "
    "be raised* or *may be changed*.",
    FineTuneProfile: "Cluster-scoped. It may be changed at any time; jobs that have started keep "
    "to what it said then.",
}


def build_reference() -> str:
    """Markdown for every block of every kind, in the order a manifest is read."""
    parts = [_INTRO]
    for model, about in _ABOUT.items():
        parts.append(f"# {model.__name__}\n\n{about}\n")
        schema = build_schema(model)
        for name in ("spec", "status"):
            if name in schema["properties"]:
                parts += [_render_block(path, node) for path, node in walk_blocks(schema, name)]
    return "\n".join(parts)


def walk_blocks(schema: Schema, name: str, prefix: str = "") -> Iterator[tuple[str, Schema]]:
    """Yields (path, schema) of the named block and all below it, depth first."""
    block = schema["properties"][name]
    path = f"{prefix}{name}"
    if block["type"] == "array":
        block, path = block["items"], f"{path}[]"
    yield path, block
    for child, node in block["properties"].items():
        if "properties" in node or "properties" in node.get("items", {}):
            yield from walk_blocks(block, child, f"{path}.")


def _render_block(path: str, block: Schema) -> str:
    required = block.get("required", [])
    lines = [f"## {path}", "", _escape(block.get("description", "")), ""]
    lines += ["| field | accepts | default | meaning |", "|---|---|---|---|"]
    for name, node in block["properties"].items():
        lines.append(_render_row(name, node, is_required=name in required))
    rules = [rule["message"] for rule in block.get("x-kubernetes-validations", [])]
    if rules:
        lines += ["", "Rules:", "", *(f"- {_escape(rule)}" for rule in rules)]
    return "\n".join(lines) + "\n"


def _render_row(name: str, node: Schema, *, is_required: bool) -> str:
    default = "**required**" if is_required else _render_default(node)
    meaning = _escape(node.get("description", ""))
    if node.get(MUTABLE):
        meaning += f" *{node[MUTABLE]}*"
    return f"| `{name}` | {_escape(describe_accepted(node))} | {default} | {meaning} |"


def _render_default(node: Schema) -> str:
    if "default" not in node:
        return "none"
    if "properties" in node:
        return "see below"
    return f"`{json.dumps(node['default'], ensure_ascii=False)}`"


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
