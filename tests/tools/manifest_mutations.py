"""Hypothesis strategies that bend a valid FineTuneJob, field by field, along its schema."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from loam_api.finetunejob import FineTuneJob
from loam_api.schema import Schema, build_schema

MAX_MUTATIONS = 3
REMOVED = object()
# What the API's patterns let pass or not: addresses, names, white space of all sorts.
TEXTS = [
    "",
    "a",
    "-a",
    "a-",
    "A.b_c",
    "café",
    "s3://bucket/x",
    "file://x",
    "hf://owner/name",
    "ftp://x",
    "s3://",
    "https://host/v1",
    "https://user@host/v1",
    "https://ho st/v1",
    "https://ho\u00a0st/v1",
    "{input} {labels}",
    "a\n",
    "s3://b/x\n",
    "nvidia.com/gpu",
    "500m",
    "2Gi",
]
# Not 1.0: the API server takes it for a whole number, except where a rule reads the field.
STRANGERS: list[Any] = ["16", 1, 1.5, -1, 10**20, True, [], ["a"], {}, {"unknown": 1}]


def list_fields(schema: Schema, path: tuple[str, ...] = ()) -> Iterator[tuple[Any, Schema]]:
    """Every field below a block with its path; not the entries of lists and maps."""
    for name, child in schema.get("properties", {}).items():
        yield (*path, name), child
        yield from list_fields(child, (*path, name))


FIELDS = list(list_fields(build_schema(FineTuneJob)["properties"]["spec"]))


def draw_value(node: Schema) -> st.SearchStrategy[Any]:
    """Values that are at, next to and far from what the field accepts."""
    if "enum" in node:
        return st.sampled_from([*node["enum"], "other"])
    kind = node["type"]
    if kind == "boolean":
        return st.booleans()
    if kind in ("integer", "number"):
        edges = [node["minimum"], node["maximum"]]
        return st.sampled_from([value + step for value in edges for step in (-1, 0, 1)])
    if kind == "string":
        too_long = "a" * (node["maxLength"] + 1)
        return st.sampled_from([*TEXTS, too_long[1:], too_long])
    if kind == "array":
        items = draw_value(node["items"])
        full = st.lists(items, max_size=3)
        return full | items.map(lambda item: [item] * (node["maxItems"] + 1))
    if "additionalProperties" in node:
        return st.dictionaries(
            st.sampled_from(TEXTS), draw_value(node["additionalProperties"]), max_size=3
        )
    return st.fixed_dictionaries(
        {}, optional={name: draw_value(child) for name, child in node["properties"].items()}
    )


@st.composite
def bend_manifest(draw: st.DrawFn, manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """One of the manifests with one to three fields of its spec changed, removed or added."""
    manifest = copy.deepcopy(draw(st.sampled_from(manifests)))
    for _ in range(draw(st.integers(1, MAX_MUTATIONS))):
        path, node = draw(st.sampled_from(FIELDS))
        value = draw(draw_value(node) | st.sampled_from([REMOVED, None, *STRANGERS]))
        _put(manifest["spec"], path, copy.deepcopy(value) if value is not REMOVED else REMOVED)
    return manifest


def _put(block: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        if not isinstance(block.get(name), dict):
            block[name] = {}
        block = block[name]
    if value is REMOVED:
        block.pop(path[-1], None)
    else:
        block[path[-1]] = value
