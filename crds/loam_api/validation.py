"""Checks a manifest and says everything that is wrong with it at once, in words for its writer."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from loam_api.base import RULE_ERROR, ApiModel
from loam_api.cross_checks import find_broken_rules
from loam_api.finetunejob import FineTuneJob, FineTuneJobSpec
from loam_api.finetuneprofile import FineTuneProfile, FineTuneProfileSpec
from loam_api.problems import ManifestError, Problem, join_path, show_value
from loam_api.schema import Schema, build_schema
from loam_api.suggestions import suggest_field, suggest_value
from loam_api.words import describe_accepted

__all__ = ["ManifestError", "Problem", "validate_manifest", "validate_profile"]

Kind = TypeVar("Kind", bound=BaseModel)

MAX_DEPTH = 32  # far over the API's own; a YAML alias can refer to itself


def validate_manifest(document: Any) -> FineTuneJob:
    """The job that a parsed YAML or JSON document describes.

    As the API server does, a null counts as a field left out, and `status` is not the
    writer's to give: it is passed over. Field names are the manifest's (camelCase) only.

    Raises:
        ManifestError: with every problem of the document.
    """
    return _validate(document, FineTuneJob, FineTuneJobSpec)


def validate_profile(document: Any) -> FineTuneProfile:
    """The profile that a parsed YAML or JSON document describes, as `validate_manifest` does.

    Raises:
        ManifestError: with every problem of the document.
    """
    return _validate(document, FineTuneProfile, FineTuneProfileSpec)


def _validate(document: Any, model: type[Kind], spec: type[ApiModel]) -> Kind:
    if not isinstance(document, dict):
        accepted = "a manifest must be one block with apiVersion, kind, metadata and spec"
        raise ManifestError((Problem("", show_value("", document), accepted),))
    problems: list[Problem] = []
    plain = _to_json_types(document, (), problems)
    plain.pop("status", None)
    try:
        # Through JSON, because only there is strict mode what the API server does: blocks are
        # mappings, yet "16" is not a number.
        parsed = model.model_validate_json(
            json.dumps(plain), strict=True, by_alias=True, by_name=False
        )
    except ValidationError as error:
        schema = build_schema(model)
        details = error.errors(include_url=False)
        problems += [_explain(one, schema) for one in details if one["type"] != RULE_ERROR]
        problems += find_broken_rules(spec, plain.get("spec"), "spec")
    if problems:
        raise ManifestError(tuple(sorted(set(problems), key=lambda problem: problem.path)))
    return parsed


def _to_json_types(value: Any, path: tuple[str | int, ...], problems: list[Problem]) -> Any:
    """The value in JSON's types, nulls left out of mappings; notes what JSON does not have."""
    if len(path) > MAX_DEPTH:
        problems.append(Problem(join_path(path[:4]), "", "is nested too deeply"))
        return None
    if isinstance(value, dict):
        return {
            str(key): _to_json_types(child, (*path, str(key)), problems)
            for key, child in value.items()
            if child is not None and _check_key(key, path, problems)
        }
    if isinstance(value, list | tuple):
        return [
            _to_json_types(child, (*path, index), problems) for index, child in enumerate(value)
        ]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # to the API server, too, 2.0 is a whole number
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _check_key(key: Any, path: tuple[str | int, ...], problems: list[Problem]) -> bool:
    if isinstance(key, str):
        return True
    message = "a name must be a text; YAML reads this one as something else: put it in quotes"
    problems.append(Problem(join_path(path), show_value("", key), message))
    return False


def _explain(error: ErrorDetails, schema: Schema) -> Problem:
    """One of pydantic's errors in words."""
    location = error["loc"]
    kind = error["type"]
    path = join_path(location)
    if kind == "extra_forbidden":
        block = _find_node(schema, location[:-1])
        suggestion = suggest_field(str(location[-1]), block, schema)
        known = ", ".join(block.get("properties", {}))
        message = f"there is no such field here; the fields are: {known}"
        return Problem(path, show_value(path, error["input"]), message, suggestion)
    if location and location[-1] == "[key]":
        location = location[:-2]
    node = _find_node(schema, location)
    if kind == "missing":
        return Problem(path, "", f"is required: {_phrase(node)}")
    suggestion = suggest_value(error["input"], node)
    return Problem(path, show_value(path, error["input"]), f"must be {_phrase(node)}", suggestion)


def _phrase(node: Schema) -> str:
    if "properties" in node:
        return f"a block with the fields {', '.join(node['properties'])}"
    return describe_accepted(node)


def _find_node(schema: Schema, location: tuple[str | int, ...]) -> Schema:
    for step in location:
        if isinstance(step, int):
            schema = schema["items"]
        elif "properties" in schema:
            schema = schema["properties"][step]
        else:
            schema = schema["additionalProperties"]
    return schema
