"""What a run stands on, kept with its weights: later steps have neither the model nor torch."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from loam_runtime.export.adapter import BaseModel
from loam_runtime.export.licenses import License

if TYPE_CHECKING:
    from collections.abc import Mapping


def record_lineage(base: BaseModel, digests: Mapping[str, str]) -> dict[str, Any]:
    """JSON-able: the base model, and the SHA-256 of every input by its role."""
    return {"base": asdict(base), "inputs": dict(digests)}


def read_base(lineage: Mapping[str, Any]) -> BaseModel:
    """The base model of what `record_lineage` gave."""
    record = lineage["base"]
    return BaseModel(**{**record, "license": License(**record["license"])})
