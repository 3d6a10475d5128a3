"""Encoded rows on disk: one Arrow file, memory-mapped, so that every worker shares its pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from loam_runtime.data.template import EncodedExample

_SCHEMA = pa.schema(
    [
        ("id", pa.large_string()),
        ("input_ids", pa.large_list(pa.int32())),
        ("num_prompt_tokens", pa.int32()),
        ("is_rationale", pa.bool_()),
    ]
)
_ROWS_PER_CHUNK = 4096


class EncodedRows(Sequence[EncodedExample]):
    """Rows of one Arrow file; only those that are asked for are read."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.lengths: list[int] = _measure(table)
        self.rationale_flags: list[bool] = table.column("is_rationale").to_pylist()

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> EncodedExample:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        row = {name: self._table.column(name)[index].as_py() for name in _SCHEMA.names}
        return EncodedExample(**{**row, "input_ids": tuple(row["input_ids"])})

    def __iter__(self) -> Iterator[EncodedExample]:
        return (self[index] for index in range(len(self)))


def _measure(table: pa.Table) -> list[int]:
    chunks = table.column("input_ids").chunks
    counts = [np.diff(chunk.offsets.to_numpy()) for chunk in chunks]
    return np.concatenate(counts).tolist() if counts else []


def measure_lengths(rows: Sequence[EncodedExample]) -> list[int]:
    """Tokens of every row."""
    return rows.lengths if isinstance(rows, EncodedRows) else [len(row.input_ids) for row in rows]


def group_examples(rows: Sequence[EncodedExample]) -> list[list[int]]:
    """Row numbers by example: an answer, and the rationale that follows it where there is one."""
    known = isinstance(rows, EncodedRows)
    flags = rows.rationale_flags if known else [row.is_rationale for row in rows]
    examples: list[list[int]] = []
    for number, is_rationale in enumerate(flags):
        if is_rationale:
            examples[-1].append(number)
        else:
            examples.append([number])
    return examples


def weigh_rationale(row: EncodedExample, weight: float) -> EncodedExample:
    """The row, with that weight in the loss if it teaches a rationale."""
    return replace(row, weight=weight) if row.is_rationale else row


def write_encoded(rows: Iterable[EncodedExample], path: Path) -> None:
    """Write rows to an Arrow IPC file at `path`, replacing it."""
    partial = path.with_name(path.name + ".partial")
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        chunk: list[EncodedExample] = []
        for row in rows:
            chunk.append(row)
            if len(chunk) == _ROWS_PER_CHUNK:
                writer.write_batch(_to_record_batch(chunk))
                chunk = []
        if chunk:
            writer.write_batch(_to_record_batch(chunk))
    partial.replace(path)


def _to_record_batch(rows: Sequence[EncodedExample]) -> pa.RecordBatch:
    columns = {
        "id": [row.id for row in rows],
        "input_ids": [list(row.input_ids) for row in rows],
        "num_prompt_tokens": [row.num_prompt_tokens for row in rows],
        "is_rationale": [row.is_rationale for row in rows],
    }
    return pa.RecordBatch.from_pydict(columns, schema=_SCHEMA)


def read_encoded(path: Path) -> EncodedRows:
    """Open a file written by `write_encoded`, without reading its rows."""
    with pa.memory_map(str(path)) as source:
        return EncodedRows(pa.ipc.open_file(source).read_all())
