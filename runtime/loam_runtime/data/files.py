"""Raw rows from JSON Lines, CSV and Parquet files, with the place of every row that is broken.

JSON Lines and CSV are read line by line here, and not by `datasets`: its readers stop at the
first broken line without naming it, and turn cells such as "NA" or "007" into numbers.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from loam_runtime.errors import InputError

FORMATS_BY_ENDING = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
_BOM = b"\xef\xbb\xbf"
_CSV_DELIMITERS = ",;\t"
_MAX_CELL_CHARS = 2**27
_UNDECODED = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of invalid bytes


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used: the file's name, the row (of text files the line), and why."""

    file: str
    row: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.row}: {self.reason}"


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as its file has it: values by column."""

    file: str
    row: int
    values: dict[str, Any]


def find_data_files(paths: Iterable[Path]) -> list[Path]:
    """The files to read: each given file, and of each given folder the data files in it, by name.

    Raises:
        InputError: a path that does not exist, a folder without a data file.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist.", remedy="Correct the uri in spec.data.")
        found = [path] if path.is_file() else _list_data_files(path)
        if not found:
            raise InputError(
                f"The folder {path} holds no data file.",
                remedy=f"Put files there that end in {', '.join(FORMATS_BY_ENDING)}.",
            )
        files += found
    return files


def _list_data_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.suffix.lower() in FORMATS_BY_ENDING
        and not path.name.startswith((".", "_"))
    )


def read_rows(path: Path, file_format: str = "auto") -> Iterator[RawRow | BadRow]:
    """Every row of a file, in order; a broken one as a `BadRow`.

    Args:
        file_format: "auto" goes by the file's ending.

    Raises:
        InputError: a file that cannot be read as a whole.
    """
    if file_format == "auto":
        file_format = FORMATS_BY_ENDING.get(path.suffix.lower(), "")
    if not file_format:
        raise InputError(
            f"{path.name} has none of the endings {', '.join(FORMATS_BY_ENDING)}.",
            remedy="Name its fileFormat: jsonl, csv or parquet.",
        )
    try:
        yield from READERS[file_format](path)
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror or exc}.") from exc


def _read_jsonl(path: Path) -> Iterator[RawRow | BadRow]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            content = line.removeprefix(_BOM).strip() if number == 1 else line.strip()
            if number == 1 and content.startswith(b"["):
                raise InputError(
                    f"{path.name} is a JSON array, not JSON Lines.",
                    remedy="Write one object a line, without brackets and commas around them.",
                )
            if content:
                yield _parse_json_line(path.name, number, content)


def _parse_json_line(file: str, number: int, content: bytes) -> RawRow | BadRow:
    try:
        values = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as exc:
        return BadRow(file, number, f"invalid UTF-8 at byte {exc.start + 1} of the line")
    except json.JSONDecodeError as exc:
        return BadRow(file, number, f"not JSON: {exc.msg} at column {exc.colno}")
    except (ValueError, RecursionError) as exc:  # a number of too many digits, or deep nesting
        return BadRow(file, number, f"not JSON that can be read: {exc}")
    if not isinstance(values, dict):
        return BadRow(file, number, f"a JSON {type(values).__name__}, not an object")
    return RawRow(file, number, values)


def _read_csv(path: Path) -> Iterator[RawRow | BadRow]:
    csv.field_size_limit(_MAX_CELL_CHARS)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        header = next(lines, "")
        delimiter = max(_CSV_DELIMITERS, key=header.count)
        reader = csv.reader(chain([header], lines), delimiter=delimiter, strict=True)
        columns = [name.strip() for name in next(reader, [])]
        _check_columns(path.name, columns)
        yield from _read_csv_records(path.name, reader, columns)


def _read_csv_records(file: str, reader: Any, columns: list[str]) -> Iterator[RawRow | BadRow]:
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as exc:
            yield BadRow(file, number, f"not CSV: {exc}")
            continue
        if cells is None:
            return
        if any(map(_UNDECODED.search, cells)):
            yield BadRow(file, number, "invalid UTF-8")
        elif cells and len(cells) != len(columns):
            reason = f"{len(cells)} cells under a header of {len(columns)}"
            yield BadRow(file, number, reason)
        elif cells:
            yield RawRow(file, number, dict(zip(columns, cells, strict=True)))


def _check_columns(file: str, columns: list[str]) -> None:
    if any(map(_UNDECODED.search, columns)):
        raise InputError(f"The header of {file} is not UTF-8.", remedy="Save the file as UTF-8.")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise InputError(
            f"{file} has several columns of the name {twice[0]!r}.",
            remedy="Give every column of the header a name of its own.",
        )


def _read_parquet(path: Path) -> Iterator[RawRow | BadRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            label_names = _read_label_names(file.schema_arrow)
            batches = file.iter_batches(batch_size=1000)
            records = chain.from_iterable(map(_list_records, batches))
            for number, values in enumerate(records, start=1):
                if values is None:
                    yield BadRow(path.name, number, "invalid UTF-8")
                else:
                    yield RawRow(path.name, number, _name_labels(values, label_names))
    except pa.ArrowException as exc:
        raise InputError(f"{path.name} is not a Parquet file that can be read: {exc}.") from exc


def _list_records(batch: Any) -> list[dict[str, Any] | None]:
    """The rows of a record batch; None for one whose text is not UTF-8."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [None]
        rows = (batch.slice(row, 1) for row in range(batch.num_rows))
        return list(chain.from_iterable(map(_list_records, rows)))


def _read_label_names(schema: Any) -> dict[str, list[str]]:
    """The names behind integer columns that `datasets` wrote as class labels."""
    from datasets import ClassLabel, Features

    features = Features.from_arrow_schema(schema)
    return {
        column: feature.names
        for column, feature in features.items()
        if isinstance(feature, ClassLabel) and feature.names
    }


def _name_labels(values: dict[str, Any], names: dict[str, list[str]]) -> dict[str, Any]:
    named = {
        column: labels[values[column]]
        for column, labels in names.items()
        if values[column] is not None and 0 <= values[column] < len(labels)
    }
    return {**values, **named}


READERS: dict[str, Callable[[Path], Iterator[RawRow | BadRow]]] = {
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
}
