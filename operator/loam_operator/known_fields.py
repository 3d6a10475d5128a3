"""Of a spec, the fields that this operator knows.

A CRD is often newer than the operator: it is put first, and for a while both are there. Its new
fields then come with their defaults in every job that is read, also in those that have been running
for days: which they must survive.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from loam_api.finetunejob import FineTuneJobSpec
from loam_api.schema import build_schema


def keep_known(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec without fields that the API's model has not."""
    kept: dict[str, Any] = _keep(spec, _read_schema())
    return kept


@cache
def _read_schema() -> dict[str, Any]:
    return build_schema(FineTuneJobSpec)


def _keep(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        return {name: _keep(child, known[name]) for name, child in value.items() if name in known}
    if isinstance(value, list) and "items" in schema:
        return [_keep(child, schema["items"]) for child in value]
    return value
