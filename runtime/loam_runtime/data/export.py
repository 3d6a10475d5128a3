"""Rows as files that a user reads, and that Loam reads as seeds again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_runtime.data.examples import Example
from loam_runtime.errors import InputError

if TYPE_CHECKING:
    from loam_api.finetunejob import FieldMapping

SUFFIXES = (".jsonl", ".parquet")


def check_suffix(path: Path) -> None:
    """Refuse a file whose format the name does not tell, before any work is done for it.

    Raises:
        InputError: the suffix is neither .jsonl nor .parquet.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"{path} names no format: its ending is {path.suffix!r}.",
            remedy=f"End the name in {' or '.join(SUFFIXES)}.",
        )


def export_rows(
    rows: Sequence[Example], path: Path, fields: FieldMapping, *, is_classification: bool
) -> None:
    """Write rows in their seeds' format, each with its origin; replaces the file in one step.

    Args:
        fields: the user's names of the columns; the usual names where it says nothing.

    Raises:
        InputError: see `check_suffix`.
    """
    check_suffix(path)
    records = [
        {
            **_name_columns(row, fields, is_classification),
            "origin": row.origin,
            "source": row.source,
        }
        for row in rows
    ]
    unfinished = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        _write_parquet(records, unfinished)
    else:
        write_json_lines(records, unfinished)
    os.replace(unfinished, path)


def write_json_lines(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One object a line, UTF-8."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """What `write_json_lines` wrote."""
    # Line by line of the file: a text may hold what `splitlines` takes for the end of one.
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _name_columns(row: Example, fields: FieldMapping, is_classification: bool) -> dict[str, Any]:
    if row.context:
        return {fields.messages or "messages": _list_messages(row)}
    if row.rejected:
        return {
            fields.prompt or "prompt": row.input,
            fields.chosen or "chosen": row.target,
            fields.rejected or "rejected": row.rejected,
        }
    if not row.input:
        return {fields.text or "text": row.target}
    explained = {fields.rationale or "rationale": row.rationale} if row.rationale else {}
    if is_classification:
        names = (fields.text or "text", fields.label or "label")
    else:
        names = (fields.prompt or "prompt", fields.completion or "completion")
    return {**dict(zip(names, (row.input, row.target), strict=True)), **explained}


def _list_messages(row: Example) -> list[dict[str, str]]:
    turns = [{"role": turn.role, "content": turn.content} for turn in row.context]
    last = [{"role": "user", "content": row.input}, {"role": "assistant", "content": row.target}]
    return [*turns, *last]


def _write_parquet(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(list(records)), path)
