"""Structural OpenAPI v3 schemas from the pydantic models, as Kubernetes asks for them.

Pydantic writes JSON Schema with `$ref`, `anyOf` with null, `title` and numeric exclusive
bounds. A structural schema has none of these: every node carries its type, an optional
field is simply not required, and exclusive bounds are flags (OpenAPI v3.0).
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from loam_api.base import MUTABLE

Schema = dict[str, Any]

_DROPPED = ("title", "additionalProperties", "$defs", "const", "propertyNames")
_EXCLUSIVE = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}
_MAX_INT32 = 2**31 - 1


def build_schema(model: type[BaseModel]) -> Schema:
    """The model as one nested schema; fields marked mutable keep their mark (`x-mutable`)."""
    document = model.model_json_schema(by_alias=True)
    return _convert(document, document.get("$defs", {}))


def strip_marks(schema: Schema) -> Schema:
    """The schema without Loam's own marks, for the API server."""
    plain = {key: value for key, value in schema.items() if key != MUTABLE}
    if "properties" in plain:
        plain["properties"] = {
            name: strip_marks(child) for name, child in plain["properties"].items()
        }
    for key in ("items", "additionalProperties"):
        if key in plain:
            plain[key] = strip_marks(plain[key])
    return plain


def _convert(node: Schema, definitions: dict[str, Schema]) -> Schema:
    node = _drop_null(_resolve(node, definitions), definitions)
    converted = {key: value for key, value in node.items() if key not in _DROPPED}
    if "const" in node:
        converted |= {"type": "string", "enum": [node["const"]]}
    if "properties" in node:
        converted["properties"] = {
            name: _convert(child, definitions) for name, child in node["properties"].items()
        }
    if isinstance(node.get("additionalProperties"), dict):
        converted["additionalProperties"] = _convert(node["additionalProperties"], definitions)
    if "items" in node:
        converted["items"] = _convert(node["items"], definitions)
    return _mark_numbers(converted)


def _resolve(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """The referred block, overlaid with what the referring field says of it."""
    if "$ref" not in node:
        return node
    target = definitions[node["$ref"].removeprefix("#/$defs/")]
    own = {key: value for key, value in node.items() if key != "$ref"}
    return {**target, **own}


def _drop_null(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """`X | None` as plain X: in Kubernetes an absent field is not a null one."""
    if "anyOf" not in node:
        return node
    branches = [branch for branch in node["anyOf"] if branch.get("type") != "null"]
    if len(branches) != 1:
        raise ValueError(f"a union has no structural schema: {node['anyOf']}")
    own = {key: value for key, value in node.items() if key != "anyOf"}
    if own.get("default", ...) is None:
        del own["default"]
    return {**_resolve(branches[0], definitions), **own}


def _mark_numbers(node: Schema) -> Schema:
    for exclusive, bound in _EXCLUSIVE.items():
        if exclusive in node:
            node[bound] = node[exclusive]
            node[exclusive] = True
    if node.get("type") == "integer":
        node["format"] = "int32" if node.get("maximum", _MAX_INT32 + 1) <= _MAX_INT32 else "int64"
    return node
