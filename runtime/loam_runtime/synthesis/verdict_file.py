"""The sample of a spot check as CSV: written for a spreadsheet, read back with its verdicts.

Cells come from a model, so none of them may act: a spreadsheet takes what begins with one of
`=+-@` for a formula. Ids begin with a letter, because a spreadsheet makes a number of hexadecimal
digits and loses the last ones.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loam_api.review import ROW_MARK
from loam_runtime.data.examples import Example
from loam_runtime.errors import InputError

_TEXTS = ("input", "rationale", "target", "rejected")  # of a row, as a person reads it
_ALWAYS = ("input", "target")
GOOD = ("good", "ok", "yes", "y", "1", "true", "approved", "approve")
BAD = ("bad", "no", "n", "0", "false", "rejected", "reject")
_ACTIVE = ("=", "+", "-", "@", "\t", "\r", "\n")
_MAX_LISTED = 20
_MAX_CELL = 32_000  # a spreadsheet's own limit is 32,767 characters


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What a person wrote beside the rows; rows without a word are in neither list."""

    rejected: tuple[str, ...]
    good: tuple[str, ...]


def write_sample(sample: Sequence[Example], scores: Mapping[str, float]) -> bytes:
    """The CSV file, with empty columns for verdict and comment."""
    text = io.StringIO()
    writer = csv.writer(text)
    columns = list_texts(sample)
    writer.writerow(("row id", *columns, "score", "source", "verdict", "comment"))
    for row in sample:
        texts = [_disarm(getattr(row, name)) for name in columns]
        score = show_score(row, scores)
        writer.writerow((mark_id(row.id), *texts, score, _disarm(row.source), "", ""))
    return text.getvalue().encode("utf-8-sig")  # the mark tells a spreadsheet the encoding


def list_texts(sample: Sequence[Example]) -> list[str]:
    """The fields of a row that are shown: rationale and refused answer where any row has one."""
    return [name for name in _TEXTS if name in _ALWAYS or any(getattr(row, name) for row in sample)]


def show_score(row: Example, scores: Mapping[str, float]) -> str:
    """A row's quality; "" where it has none."""
    score = scores.get(row.id)
    return "" if score is None else f"{score:.4f}"


def read_verdicts(data: bytes, known_ids: Sequence[str] | None = None) -> Verdicts:
    """The verdicts of a CSV file that a person has filled in.

    Args:
        known_ids: of the sample; None where they are not at hand.

    Raises:
        InputError: no such file, or rows with an unknown id or word: all of them, by line.
    """
    rejected: dict[str, None] = {}
    good: dict[str, None] = {}
    problems = []
    for line, cells in _read_rows(data):
        row_id = unmark_id(cells["row id"])
        word = cells["verdict"].strip().lower()
        problem = _find_problem(row_id, word, {*rejected, *good}, known_ids)
        if problem:
            problems.append(f"line {line}: {problem}")
        elif word:
            (good if word in GOOD else rejected)[row_id] = None
    if problems:
        more = f"; and {len(problems) - _MAX_LISTED} more" if len(problems) > _MAX_LISTED else ""
        raise InputError(
            f"The verdicts cannot be read: {'; '.join(problems[:_MAX_LISTED])}{more}.",
            remedy="Write good or bad into the column verdict, and leave the column row id alone.",
        )
    return Verdicts(tuple(rejected), tuple(good))


def list_ids(data: bytes) -> list[str]:
    """The ids of a sample's rows, in order."""
    return [unmark_id(cells["row id"]) for _, cells in _read_rows(data)]


def mark_id(row_id: str) -> str:
    """An id as a person sees it."""
    return f"{ROW_MARK}{row_id}"


def unmark_id(text: str) -> str:
    """The id that a person gave, with or without the mark."""
    return text.strip().removeprefix(ROW_MARK)


def _find_problem(row_id: str, word: str, seen: set[str], known_ids: Sequence[str] | None) -> str:
    if not row_id:
        return "has no row id"
    if known_ids is not None and row_id not in known_ids:
        return f"no row of the sample has the id {row_id!r}"
    if word and row_id in seen:
        return f"{row_id} has a verdict already"
    if word and word not in (*GOOD, *BAD):
        return f"the verdict {word[:40]!r} is neither good nor bad"
    return ""


def _read_rows(data: bytes) -> list[tuple[int, dict[str, str]]]:
    """Line number and cells of each row; spreadsheets in Europe write semicolons."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise InputError(
            "The file is not UTF-8.", remedy="Save it from the spreadsheet as CSV UTF-8."
        ) from exc
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
    missing = {"row id", "verdict"} - set(reader.fieldnames or ())
    if missing:
        raise InputError(
            f"The file has no column {' and no column '.join(sorted(missing))}.",
            remedy="Fill in the file data/spot_check.csv of the run and keep its first line.",
        )
    rows = []
    for cells in reader:
        if any(isinstance(value, str) and value.strip() for value in cells.values()):
            rows.append((reader.line_num, cells))
    return rows


def _disarm(text: str) -> str:
    """The same text for a reader, and no formula for a spreadsheet."""
    shown = text.replace("\x00", "")[:_MAX_CELL]
    return f"'{shown}" if shown.lstrip().startswith(_ACTIVE) or shown[:1] in _ACTIVE else shown
