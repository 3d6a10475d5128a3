"""Files and jobs for the tests of the data package."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from loam_api.finetunejob import DataSpec


@pytest.fixture(scope="session")
def build_data() -> Callable[..., DataSpec]:
    """A job's data block by its YAML names; a classification job unless told otherwise."""

    def build(**values: Any) -> DataSpec:
        return DataSpec.model_validate(
            {"seeds": {"uri": "file://seeds.jsonl"}, "task": "classification", **values}
        )

    return build


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as JSON Lines into the test's folder."""

    def write(rows: Iterable[Any], name: str = "seeds.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write
