"""The generated CRD is one that an API server accepts, and what is on disk is what is generated."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel

from loam_api.base import Rule
from loam_api.crd import KINDS, Kind, build_crd, build_immutable_rule, build_manifest_schema
from loam_api.cross_checks import get_block, get_entry_block
from loam_api.finetunejob import FineTuneJob, FineTuneJobSpec
from loam_api.schema import build_schema

ROOT = Path(__file__).parents[3]

# What a structural schema may hold besides its type.
ALLOWED_KEYS = {
    "additionalProperties",
    "default",
    "description",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-validations",
}
PYTHON_TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


JOB = next(kind for kind in KINDS if kind.model is FineTuneJob)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.model.__name__)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="module")
def crd(kind: Kind) -> dict[str, Any]:
    return build_crd(kind)


@pytest.fixture(scope="module")
def root(crd: dict[str, Any]) -> dict[str, Any]:
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


@pytest.fixture(scope="module")
def job_root() -> dict[str, Any]:
    return build_crd(JOB)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from walk(schema[key], f"{path}[]")


def test_schema_is_structural(root):
    """Every node has a type and no key outside the structural ones; else the CRD is refused."""
    for path, node in walk(root):
        assert node.get("type") in PYTHON_TYPES, path
        assert not set(node) - ALLOWED_KEYS, path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert set(node.get("required", [])) <= set(node.get("properties", {})), path
        assert isinstance(node.get("exclusiveMinimum", True), bool), path
        assert isinstance(node.get("exclusiveMaximum", True), bool), path


def test_nothing_is_unbounded(root):
    """An unbounded string, list, map or number would break the API server's CEL cost limit."""
    for path, node in walk(root):
        if path in (".apiVersion", ".kind", ".metadata"):
            continue
        if node["type"] == "string":
            assert "maxLength" in node or "enum" in node, path
        if node["type"] == "array":
            assert "maxItems" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path
        if node["type"] in ("integer", "number"):
            assert {"minimum", "maximum"} <= set(node), path


def test_defaults_are_complete_and_typed(root):
    """A default that misses a nested field or has a null makes the server refuse the CRD."""

    def check(value: Any, node: dict[str, Any], path: str) -> None:
        assert isinstance(value, PYTHON_TYPES[node["type"]]), path
        for name, child in node.get("properties", {}).items():
            if "default" in child:
                assert value[name] == child["default"], f"{path}.{name}"

    for path, node in walk(root):
        if "default" in node:
            check(node["default"], node, path)


def test_server_default_equals_python_default(job_root):
    """A field left out must mean the same on a laptop and in a cluster."""
    spec = job_root["properties"]["spec"]["properties"]
    given = {"model": {"uri": "file://m"}, "output": {"uri": "file://o"}}
    given["data"] = {"seeds": {"uri": "file://s"}, "task": "text"}
    parsed = FineTuneJobSpec.model_validate(given).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    for block in ("training", "evaluation", "compute"):
        assert spec[block]["default"] == parsed[block]


def test_every_field_is_described(root):
    """A field without a description is a hole in the API reference and in kubectl explain."""
    for path, node in walk(root["properties"]["spec"], "spec"):
        if not path.endswith("[]"):
            assert node.get("description"), path


def test_size_is_small(crd):
    """Over 200 KiB a CRD no longer fits the annotation of a client-side apply."""
    assert len(yaml.safe_dump(crd)) < 200 * 1024


def test_rules_reach_the_schema(root, kind):
    """A rule that stays in Python lets kubectl apply what loam validate refuses."""

    def collect(model: type[BaseModel]) -> Iterator[Rule]:
        yield from model.rules
        for field in model.model_fields.values():
            block = get_block(field) or get_entry_block(field)
            if block:
                yield from collect(block)

    in_schema = [
        rule["rule"] for _, node in walk(root) for rule in node.get("x-kubernetes-validations", [])
    ]
    spec = kind.model.model_fields["spec"].annotation
    declared = [rule.cel for rule in collect(spec)]
    assert declared
    assert set(declared) <= set(in_schema)


def test_rule_paths_exist(root):
    """The server refuses a rule whose fieldPath names no field."""
    for path, node in walk(root):
        for rule in node.get("x-kubernetes-validations", []):
            target = node
            for step in rule.get("fieldPath", "").split(".")[1:]:
                assert step in target["properties"], f"{path}{rule['fieldPath']}"
                target = target["properties"][step]


LIFECYCLE = {"suspend", "backoffLimit", "activeDeadlineSeconds", "clusterTTLSeconds"}


def test_spec_is_immutable_but_for_budget_and_life_cycle(job_root):
    """A changed spec under a running job would be half of two experiments."""
    rule = job_root["properties"]["spec"]["x-kubernetes-validations"][-1]["rule"]
    assert set(job_root["properties"]["spec"]["properties"]) > LIFECYCLE
    for name, node in job_root["properties"]["spec"]["properties"].items():
        if name in LIFECYCLE:
            assert name not in rule
            continue
        is_always_there = name in job_root["properties"]["spec"]["required"] or "default" in node
        pair = f"has(self.{name}) == has(oldSelf.{name})"
        assert (pair in rule) != is_always_there, name
        for field in node["properties"] if name == "evaluation" else [""]:
            path = f"{name}.{field}".rstrip(".")
            is_whole = f"self.{path} == oldSelf.{path}" in rule
            assert is_whole or "default" not in node or path == "evaluation.judge"
    assert "self.synthesis.targetCount == oldSelf.synthesis.targetCount" in rule
    assert "self.evaluation.judge.maxRows == oldSelf.evaluation.judge.maxRows" in rule
    assert "budget" not in rule


def test_immutable_rule_skips_marked_fields():
    """A mark that is not heeded would forbid raising a budget."""
    schema = {
        "properties": {"a": {"type": "string"}, "b": {"type": "string", "x-mutable": True}},
        "required": ["a"],
    }
    assert build_immutable_rule(schema) == "self.a == oldSelf.a"


def test_printer_columns_exist(root, kind):
    """kubectl prints an empty column, and no error, for a path that does not exist."""
    for column in kind.columns:
        node = root
        for step in column["jsonPath"].split(".")[1:]:
            if node is root["properties"]["metadata"]:
                break
            node = node["properties"][step]
        else:
            assert node["type"] == column["type"], column["name"]


def test_generated_files_are_fresh():
    """A model changed without `make crds` ships a CRD that says something else."""
    script = ROOT / "crds" / "write_crds.py"
    result = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_check_names_what_is_stale(tmp_path, monkeypatch):
    """A check that passes on a missing file would never fail."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("write_crds", ROOT / "crds" / "write_crds.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    file = tmp_path / "a.yaml"
    assert module.find_stale({file: "x"}) == [file]
    file.write_text("x")
    assert module.find_stale({file: "x"}) == []


def test_unions_are_refused():
    """A union would come out as anyOf, which no structural schema has."""

    class Bad(BaseModel):
        value: int | str

    with pytest.raises(ValueError, match="union"):
        build_schema(Bad)


def test_single_literal_becomes_an_enum():
    """pydantic writes `const`, which OpenAPI v3.0 does not know: the server would ignore it."""

    class One(BaseModel):
        kind: Literal["only"]

    assert build_schema(One)["properties"]["kind"] == {"type": "string", "enum": ["only"]}


def test_manifest_schema_is_json_and_closed():
    """An editor's schema that allows unknown fields marks no misspelling."""
    schema = build_manifest_schema()
    json.dumps(schema)
    assert schema["additionalProperties"] is False
    for name in ("FineTuneJobSpec", "Training", "LoraSettings", "OpenAITeacher"):
        assert schema["$defs"][name]["additionalProperties"] is False
