"""Files of examples as one table: read, checked row by row, without duplicates.

Rows pass one at a time from the files into Arrow, so that memory holds the table and a digest
a row, never the rows as Python objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from loam_runtime.data.examples import Example, Origin, to_dataset
from loam_runtime.data.files import BadRow, RawRow, find_data_files, read_rows
from loam_runtime.data.formats import Layout, detect_layout
from loam_runtime.data.normalize import digest_texts
from loam_runtime.data.rows import RowError, build_example
from loam_runtime.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

    from loam_api.finetunejob import DataSpec

NUM_ROWS_SHOWN = 10
_NUM_ROWS_LOOKED_AT = 100
_MIN_SHARE = 0.1  # of the rows looked at, for a column to count
_CHUNK_ROWS = 1000


@dataclass(frozen=True)
class LoadedRows:
    """The usable rows, and what became of the others.

    Attributes:
        dataset: a table of examples, in the order of the files.
        row_format: the format that was found or named.
        bad_rows: rows left out under `onBadRow: skip`.
        num_duplicates: rows left out because an equal one stands before them.
        num_conflicts: rows whose input has another label elsewhere; left out unless
            `onConflict: keep`.
    """

    dataset: Dataset
    row_format: str
    bad_rows: tuple[BadRow, ...] = ()
    num_duplicates: int = 0
    num_conflicts: int = 0


@dataclass(slots=True)
class _Reading:
    """What is known of the rows read so far."""

    row_formats: set[str] = field(default_factory=set)
    bad_rows: list[BadRow] = field(default_factory=list)
    num_bad: int = 0
    num_duplicates: int = 0
    seen: set[str] = field(default_factory=set)
    inputs: list[bytes] = field(default_factory=list)
    first_labels: dict[bytes, tuple[str, str]] = field(default_factory=dict)  # label, source
    conflicts: dict[bytes, dict[str, str]] = field(default_factory=dict)  # source by label


def load_examples(
    paths: Sequence[Path],
    data: DataSpec,
    *,
    origin: Origin = "seed",
    file_format: str | None = None,
) -> LoadedRows:
    """Read files, and folders of files, into one table of examples.

    Args:
        paths: local files or folders.
        data: how rows are read, and the policies for bad and conflicting ones.
        file_format: of these files; that of the seeds if None.

    Raises:
        InputError: a file or a row that cannot be used (the first rows are named, and how many
            there are), or nothing left.
    """
    from datasets import concatenate_datasets

    files = find_data_files(paths)
    reading = _Reading()
    file_format = data.seeds.file_format if file_format is None else file_format
    examples = chain.from_iterable(
        _read_examples(path, file_format, data, origin, reading) for path in files
    )
    tables = [to_dataset(rows) for rows in _split_into_chunks(examples)]
    names = ", ".join(path.name for path in files)
    if reading.num_bad and data.on_bad_row == "fail":
        raise _explain_bad_rows(reading)
    if not tables:
        raise InputError(
            f"{names}: no usable row ({reading.num_bad} bad).", remedy="Add examples to the file."
        )
    dataset, num_conflicts = _settle_conflicts(concatenate_datasets(tables), data, reading)
    return LoadedRows(
        dataset=dataset,
        row_format=" + ".join(sorted(reading.row_formats)),
        bad_rows=tuple(reading.bad_rows),
        num_duplicates=reading.num_duplicates,
        num_conflicts=num_conflicts,
    )


def scan_examples(
    path: Path, data: DataSpec, *, file_format: str | None = None
) -> Iterator[Example]:
    """The usable rows under a path, one by one, without a table: enough to count by.

    Raises:
        InputError: a file that cannot be used at all; bad rows are passed over.
    """
    reading = _Reading()
    file_format = data.seeds.file_format if file_format is None else file_format
    for file in find_data_files([path]):
        yield from _read_examples(file, file_format, data, "seed", reading)


def _read_examples(
    path: Path, file_format: str, data: DataSpec, origin: Origin, reading: _Reading
) -> Iterator[Example]:
    """The usable rows of a file that were not seen before; `reading` takes note of all."""
    rows = read_rows(path, file_format)
    beginning = list(islice(rows, _NUM_ROWS_LOOKED_AT))
    layout = _find_layout(beginning, data, path.name)
    for row in chain(beginning, rows):
        result = row if layout is None else _try_row(row, layout, data, origin)
        if isinstance(result, BadRow):
            reading.num_bad += 1
            if data.on_bad_row == "skip" or reading.num_bad <= NUM_ROWS_SHOWN:
                reading.bad_rows.append(result)
        elif result.id in reading.seen:
            reading.num_duplicates += 1
        else:
            reading.row_formats.add(layout.row_format)
            _take_note(result, data, reading)
            yield result


def _find_layout(rows: Sequence[RawRow | BadRow], data: DataSpec, file: str) -> Layout | None:
    """The layout by the columns of the first rows, odd ones aside; None if none could be read."""
    readable = [row for row in rows if isinstance(row, RawRow)]
    if not readable:
        return None
    counts = Counter(name for row in readable for name in row.values)
    usual = [name for name, count in counts.items() if count >= _MIN_SHARE * len(readable)]
    return detect_layout(usual, data, file)


def _try_row(
    row: RawRow | BadRow, layout: Layout, data: DataSpec, origin: Origin
) -> Example | BadRow:
    if isinstance(row, BadRow):
        return row
    try:
        return build_example(row, layout, is_label=data.task == "classification", origin=origin)
    except RowError as exc:
        return BadRow(row.file, row.row, str(exc))


def _take_note(example: Example, data: DataSpec, reading: _Reading) -> None:
    reading.seen.add(example.id)
    if data.task != "classification":
        return
    key = digest_texts(example.input, *(turn.content for turn in example.context))
    reading.inputs.append(key)
    label, source = reading.first_labels.setdefault(key, (example.target, example.source))
    if label != example.target:
        labels = reading.conflicts.setdefault(key, {label: source})
        labels.setdefault(example.target, example.source)


def _settle_conflicts(dataset: Dataset, data: DataSpec, reading: _Reading) -> tuple[Dataset, int]:
    """The table by the policy for equal inputs with different labels, and their number of rows."""
    if reading.conflicts and data.on_conflict == "fail":
        raise _explain_conflicts(list(reading.conflicts.values()))
    clean = [row for row, key in enumerate(reading.inputs) if key not in reading.conflicts]
    num_conflicts = len(reading.inputs) - len(clean)
    if not num_conflicts or data.on_conflict == "keep":
        return dataset, num_conflicts
    if not clean:
        raise InputError("Every input has several labels.", remedy="Correct the labels.")
    return dataset.select(clean), num_conflicts


def _explain_bad_rows(reading: _Reading) -> InputError:
    shown = "\n".join(f"  {row}" for row in reading.bad_rows)
    more = reading.num_bad - len(reading.bad_rows)
    return InputError(
        f"{reading.num_bad} rows cannot be used:\n{shown}\n"
        + (f"  and {more} more\n" if more else ""),
        remedy="Correct them, or leave them out with data.onBadRow: skip.",
    )


def _explain_conflicts(conflicts: list[dict[str, str]]) -> InputError:
    shown = "\n".join(
        "  " + ", ".join(f"{source} says {label!r}" for label, source in labels.items())
        for labels in conflicts[:NUM_ROWS_SHOWN]
    )
    return InputError(
        f"{len(conflicts)} inputs have several labels:\n{shown}\n",
        remedy="Correct them, or set data.onConflict to drop or keep.",
    )


def _split_into_chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    remaining = iter(examples)
    while chunk := list(islice(remaining, _CHUNK_ROWS)):
        yield chunk
