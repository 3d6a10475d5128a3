"""The CustomResourceDefinitions of the models: what `kubectl apply` checks without a webhook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from loam_api.base import MAX_NAME_LENGTH, MUTABLE
from loam_api.finetunejob import API_GROUP, API_VERSION, FineTuneJob
from loam_api.finetuneprofile import FineTuneProfile
from loam_api.schema import Schema, build_schema, strip_marks

# The server checks these itself, in its own schema.
_SERVER_FIELDS = ("apiVersion", "kind", "metadata")

_NAME_RULE = {
    "rule": f"self.metadata.name.size() <= {MAX_NAME_LENGTH} && "
    "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "message": f"metadata.name must have at most {MAX_NAME_LENGTH} lower-case letters, digits and "
    "dashes, with a letter first and no dash last",
}

_IMMUTABLE_MESSAGE = (
    "spec cannot be changed, but for suspend, backoffLimit, activeDeadlineSeconds, "
    "clusterTTLSeconds and a raised synthesis.budget or evaluation.judge.budget: a changed "
    "experiment is a new name"
)


def _column(name: str, path: str, kind: str = "string", *, is_wide: bool = False) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    return {**column, "priority": 1} if is_wide else column


JOB_COLUMNS = [
    _column("Phase", ".status.phase"),
    _column("Method", ".status.method"),
    _column("Progress", ".status.progress.summary"),
    _column("Score", ".status.metrics.score", "number"),
    _column("Attempt", ".status.attempt", "integer", is_wide=True),
    _column("Workers", ".spec.compute.workers.max", "integer", is_wide=True),
    _column("GPU", ".status.gpus", is_wide=True),
    _column("Cost", ".status.cost", is_wide=True),
    _column("Age", ".metadata.creationTimestamp", "date"),
]
PROFILE_COLUMNS = [
    _column("Default", ".spec.default", "boolean"),
    _column("GPUs", ".spec.limits.gpus", "integer"),
    _column("Workers", ".spec.limits.workers", "integer"),
    _column("Deadline", ".spec.limits.activeDeadlineSeconds", "integer", is_wide=True),
    _column("Image", ".spec.pods.image", is_wide=True),
    _column("Age", ".metadata.creationTimestamp", "date"),
]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a CRD says of a kind besides its schema.

    Attributes:
        is_immutable: whether the spec stays as it was applied, but for fields marked mutable.
    """

    model: type[BaseModel]
    scope: Literal["Namespaced", "Cluster"]
    short_name: str
    columns: list[dict[str, Any]]
    is_immutable: bool


KINDS = (
    Kind(FineTuneJob, "Namespaced", "ftj", JOB_COLUMNS, is_immutable=True),
    Kind(FineTuneProfile, "Cluster", "ftp", PROFILE_COLUMNS, is_immutable=False),
)


def build_crd(kind: Kind) -> dict[str, Any]:
    """The CRD of a kind, whose name is its model's; its plural is that with an s."""
    name = kind.model.__name__
    plural = f"{name.lower()}s"
    version = {
        "name": API_VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _build_root(kind)},
        "additionalPrinterColumns": kind.columns,
    }
    if "status" in kind.model.model_fields:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{API_GROUP}"},
        "spec": {
            "group": API_GROUP,
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": plural,
                "singular": name.lower(),
                "shortNames": [kind.short_name],
                "categories": ["loam"],
            },
            "scope": kind.scope,
            "versions": [version],
        },
    }


def build_manifest_schema() -> dict[str, Any]:
    """JSON Schema of a FineTuneJob manifest, for editors: unknown fields are errors in it."""
    schema = FineTuneJob.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _build_root(kind: Kind) -> Schema:
    root = build_schema(kind.model)
    properties = root["properties"]
    spec = properties["spec"]
    properties["spec"] = strip_marks(spec)
    if kind.is_immutable:
        immutable = {"rule": build_immutable_rule(spec), "message": _IMMUTABLE_MESSAGE}
        rules = [*spec.get("x-kubernetes-validations", []), immutable]
        properties["spec"]["x-kubernetes-validations"] = rules
    for name in _SERVER_FIELDS:
        properties[name] = {"type": "object" if name == "metadata" else "string"}
    return {**root, "required": ["spec"], "x-kubernetes-validations": [_NAME_RULE]}


def build_immutable_rule(schema: Schema) -> str:
    """CEL that holds while no field has changed, but for those marked mutable.

    The server evaluates it at each write of a status, too, and each field that it names costs it
    time: a field with a default is always there and needs no `has`.
    """
    return " && ".join(_compare_fields(schema, "self", "oldSelf"))


def _compare_fields(schema: Schema, new: str, old: str) -> list[str]:
    terms = []
    for name, child in schema["properties"].items():
        if child.get(MUTABLE):
            continue
        pair = (f"{new}.{name}", f"{old}.{name}")
        same = f"{pair[0]} == {pair[1]}"
        if _has_mutable(child):
            same = " && ".join(_compare_fields(child, *pair))
        if name not in schema.get("required", []) and "default" not in child:
            same = f"has({pair[0]}) == has({pair[1]}) && (!has({pair[0]}) || ({same}))"
        terms.append(same)
    return terms


def _has_mutable(schema: Schema) -> bool:
    children = schema.get("properties", {}).values()
    return any(child.get(MUTABLE) or _has_mutable(child) for child in children)
