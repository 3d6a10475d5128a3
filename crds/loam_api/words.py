"""What a field accepts, in words: one wording for error messages and the API reference."""

from __future__ import annotations

from typing import Any

from loam_api.base import PATTERN_WORDS

_PLAIN = {"boolean": "true or false", "object": "a block of fields"}


def describe_accepted(schema: dict[str, Any]) -> str:
    """A noun phrase for the values that a field's structural schema accepts."""
    if "enum" in schema:
        return _join_or([str(value) for value in schema["enum"]])
    kind = schema.get("type", "")
    if kind == "string":
        return _describe_string(schema)
    if kind in ("integer", "number"):
        return _describe_number(schema, "a whole number" if kind == "integer" else "a number")
    if kind == "array":
        return _describe_list(schema)
    if "additionalProperties" in schema:
        value = describe_accepted(schema["additionalProperties"])
        return f"a map of at most {schema['maxProperties']} names to values, each {value}"
    return _PLAIN.get(kind, "anything")


def _describe_string(schema: dict[str, Any]) -> str:
    limit = schema["maxLength"]
    if "pattern" in schema:
        return f"{PATTERN_WORDS[schema['pattern']]}; at most {limit} characters"
    if schema.get("minLength"):
        return f"a text of 1 to {limit} characters"
    return f"a text of at most {limit} characters"


def _describe_number(schema: dict[str, Any], noun: str) -> str:
    bounds = []
    if "minimum" in schema:
        word = "above" if schema.get("exclusiveMinimum") else "at least"
        bounds.append(f"{word} {schema['minimum']:,}")
    if "maximum" in schema:
        word = "below" if schema.get("exclusiveMaximum") else "at most"
        bounds.append(f"{word} {schema['maximum']:,}")
    return f"{noun}, {' and '.join(bounds)}" if bounds else noun


def _describe_list(schema: dict[str, Any]) -> str:
    least = schema.get("minItems", 0)
    count = f"{least} to {schema['maxItems']}" if least else f"at most {schema['maxItems']}"
    return f"a list of {count} entries, each {describe_accepted(schema['items'])}"


def _join_or(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
