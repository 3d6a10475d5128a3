"""Reading files: every broken row is named, and every row that is fine is read as it is."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam_runtime.data.files import BadRow, RawRow, find_data_files, read_rows
from loam_runtime.errors import InputError

cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=20)


def read(path: Path, file_format: str = "auto") -> tuple[dict[int, dict], dict[int, str]]:
    """The good rows and the reasons of the bad ones, by row number."""
    rows = list(read_rows(path, file_format))
    good = {row.row: row.values for row in rows if isinstance(row, RawRow)}
    return good, {row.row: row.reason for row in rows if isinstance(row, BadRow)}


def test_json_lines_names_every_broken_line(tmp_path: Path):
    """One bad line among thousands must be found by its number, as an editor shows it."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "b"\n[1]\n{"text": "\xff"}\n'
        b'{"text": "c"}\n' + b"[" * 100_000 + b'\n{"text": "d"}'
    )
    good, bad = read(path)
    assert good == {1: {"text": "a"}, 6: {"text": "c"}, 8: {"text": "d"}}
    assert bad[3] == "not JSON: Expecting ',' delimiter at column 13"
    assert bad[4] == "a JSON list, not an object"
    assert bad[5] == "invalid UTF-8 at byte 11 of the line"
    assert set(bad) == {3, 4, 5, 7}


def test_json_array_is_explained(tmp_path: Path):
    """A whole-file array would otherwise be reported as thousands of broken lines."""
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"text": "a"}], indent=1))
    with pytest.raises(InputError, match="JSON array, not JSON Lines"):
        read(path)


@given(table=st.lists(st.lists(cells, min_size=2, max_size=2), min_size=1, max_size=5))
def test_csv_cells_are_read_as_text(tmp_path_factory, table: list[list[str]]):
    """ "NA", "007" and line breaks inside quotes are text, not missing values or numbers."""
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["text", "label"], *table])
    good, bad = read(path)
    assert not bad
    assert [list(row.values()) for row in good.values()] == table


def test_csv_names_every_broken_row(tmp_path: Path):
    """Ragged rows and bad bytes are named by line; the rows around them stay what they are."""
    path = tmp_path / "rows.csv"
    path.write_bytes(b'text,label\na,"b\nb"\nonly\n\nc,\xff\nd,e,f\ng,007\nh,"open\nend')
    good, bad = read(path)
    assert good == {2: {"text": "a", "label": "b\nb"}, 8: {"text": "g", "label": "007"}}
    assert bad == {
        4: "1 cells under a header of 2",
        6: "invalid UTF-8",
        7: "3 cells under a header of 2",
        9: "not CSV: unexpected end of data",
    }


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_delimiters(tmp_path: Path, delimiter: str):
    """Spreadsheets of many countries write semicolons."""
    path = tmp_path / "rows.csv"
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([["text", "label"], ["a;b,c", "x"]])
    path.write_text(text.getvalue())
    assert list(read(path)[0].values()) == [{"text": "a;b,c", "label": "x"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"text,text\na,b", "several columns"), ("text,label".encode("utf-16"), "not UTF-8")],
)
def test_csv_headers_that_cannot_be_used(tmp_path: Path, content: bytes, message: str):
    """With such a header every row would be wrong."""
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(path)


def test_parquet_labels_get_their_names(tmp_path: Path):
    """The class numbers that `datasets` writes mean nothing to a language model."""
    from datasets import ClassLabel, Dataset, Features, Value

    path = tmp_path / "rows.parquet"
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    Dataset.from_dict({"text": ["a", "b"], "label": [1, None]}, features).to_parquet(str(path))
    assert read(path)[0] == {1: {"text": "a", "label": "good"}, 2: {"text": "b", "label": None}}


def test_parquet_names_the_row_of_broken_text(tmp_path: Path):
    """Bytes that are not UTF-8 in one cell must not take a thousand good rows with them."""
    path = tmp_path / "rows.parquet"
    values = [f"row {number}".encode() for number in range(1500)]
    values[1200] = b"\xff\xfe"
    column = pa.array(values, pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": column}), path)
    good, bad = read(path)
    assert bad == {1201: "invalid UTF-8"}
    assert len(good) == 1499
    assert good[1500] == {"text": "row 1499"}


@pytest.mark.parametrize("name", ["rows.parquet", "rows.xyz"])
def test_files_that_are_something_else(tmp_path: Path, name: str):
    """The message names the file; nothing else of it can be trusted."""
    path = tmp_path / name
    path.write_bytes(b"not a table at all")
    with pytest.raises(InputError, match=name):
        read(path)


def test_named_format_overrules_the_ending(tmp_path: Path):
    """Files without an ending are common in buckets."""
    path = tmp_path / "part-0000"
    path.write_text('{"text": "a"}\n')
    assert read(path, "jsonl")[0] == {1: {"text": "a"}}


def test_folder_is_read_in_the_order_of_names(tmp_path: Path):
    """Whatever lies beside the data (notes, markers, hidden files) is no data."""
    for name in ("b.jsonl", "a.csv", "README.md", "_SUCCESS", ".hidden.jsonl", "sub/c.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in find_data_files([tmp_path])]
    assert found == ["a.csv", "b.jsonl", "sub/c.parquet"]


def test_missing_and_empty_folders_are_refused(tmp_path: Path):
    """A misspelt path must not look like an empty data set."""
    with pytest.raises(InputError, match="does not exist"):
        find_data_files([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="holds no data file"):
        find_data_files([tmp_path])
