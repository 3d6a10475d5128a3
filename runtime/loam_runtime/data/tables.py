"""Tables of examples on disk: Parquet, memory-mapped when read back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loam_runtime.data.examples import build_features

if TYPE_CHECKING:
    from datasets import Dataset


def write_table(dataset: Dataset, path: Path) -> None:
    """Write a table of examples to one Parquet file; the folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.to_parquet(str(path))


def read_table(path: Path) -> Dataset:
    """The table that `write_table` wrote."""
    from datasets import Dataset
    from pyarrow import parquet

    features = build_features()
    table = parquet.read_table(path, memory_map=True).select(list(features))
    return Dataset(table.cast(features.arrow_schema))
