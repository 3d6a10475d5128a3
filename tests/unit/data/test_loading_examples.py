"""Files of examples as one table: policies for what is broken, doubled or contradictory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam_runtime.data.examples import Example, Turn, build_features, iterate_examples, to_dataset
from loam_runtime.data.files import BadRow
from loam_runtime.data.loading import load_examples
from loam_runtime.errors import InputError

texts = st.text(st.characters(codec="utf-8"), max_size=20)


def rows_of(loaded) -> list[tuple[str, str]]:
    return [(example.input, example.target) for example in iterate_examples(loaded.dataset)]


@given(
    st.lists(
        st.builds(
            Example,
            id=texts,
            input=texts,
            target=texts,
            context=st.lists(st.builds(Turn, st.just("user"), texts), max_size=2).map(tuple),
            group=texts,
        ),
        max_size=4,
    )
)
def test_examples_survive_the_table(examples: list[Example]):
    """Stages hand tables to each other: nothing may change on the way, not even in an empty one."""
    table = to_dataset(examples)
    assert list(iterate_examples(table)) == examples
    assert table.features == build_features()


def test_rows_are_cleaned_and_counted(build_data, write_jsonl):
    """Equal rows are kept once, whatever their white space and Unicode form, and counted."""
    path = write_jsonl(
        [
            {"text": " cafe\u0301\r\nnoir ", "label": "good"},
            {"text": "café\nnoir", "label": " good"},
            {"text": "tea", "label": "bad"},
        ]
    )
    loaded = load_examples([path], build_data())
    assert rows_of(loaded) == [("café\nnoir", "good"), ("tea", "bad")]
    assert (loaded.row_format, loaded.num_duplicates) == ("textLabel", 1)
    assert loaded.dataset["source"][:] == ["seeds.jsonl:1", "seeds.jsonl:3"]


def test_rows_that_differ_in_context_or_refusal_are_kept(build_data, write_jsonl):
    """The same last question in two conversations is two examples."""
    turns = [[{"role": "user", "content": text}, {"role": "assistant", "content": "b"}]
             for text in ("x", "y")]  # fmt: skip
    last = [{"role": "user", "content": "same"}, {"role": "assistant", "content": "answer"}]
    path = write_jsonl({"messages": [*first, *last]} for first in turns)
    loaded = load_examples([path], build_data(task="generation"))
    assert len(set(loaded.dataset["id"])) == 2


def test_bad_rows_fail_with_file_row_and_reason(build_data, tmp_path: Path):
    """The first ten are shown and all are counted: a user mends a file in one go."""
    path = tmp_path / "seeds.jsonl"
    good = '{"text": "a", "label": "x"}\n'
    path.write_text(good + '{"text": "b"}\n' * 3 + good + "{\n" * 20)
    with pytest.raises(InputError) as caught:
        load_examples([path], build_data())
    message = str(caught.value)
    assert "23 rows cannot be used" in message
    assert "seeds.jsonl:2: the field 'label' is missing" in message
    assert "seeds.jsonl:6: not JSON" in message
    assert "and 13 more" in message
    assert "onBadRow" in message


def test_bad_rows_are_skipped_and_kept_with_their_reason(build_data, tmp_path: Path):
    """Skipping is a choice of the user's; the report must be able to say what was left out."""
    path = tmp_path / "seeds.jsonl"
    path.write_bytes(
        b'{"text": "a", "label": "x"}\n\xff\xfe\n{"text": 1, "label": "y"}\n'
        b'{"text": "b", "label": "y"}\n'
    )
    loaded = load_examples([path], build_data(onBadRow="skip"))
    assert rows_of(loaded) == [("a", "x"), ("b", "y")]
    assert loaded.bad_rows == (
        BadRow("seeds.jsonl", 2, "invalid UTF-8 at byte 1 of the line"),
        BadRow("seeds.jsonl", 3, "the field 'text' is a number, not text"),
    )


def test_an_overlong_row_names_its_words(build_data, write_jsonl):
    """One such row decides the memory of a whole run, so it must be found before it."""
    path = write_jsonl([{"text": "a", "label": "x"}, {"text": "so " * 100_000, "label": "y"}])
    with pytest.raises(InputError, match=r"seeds\.jsonl:2: 100,001 words"):
        load_examples([path], build_data())


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "{\n"])
def test_files_without_a_usable_row_are_refused(build_data, tmp_path: Path, content: str):
    """A run over nothing must not end in success."""
    path = tmp_path / "seeds.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match="no usable row"):
        load_examples([path], build_data(onBadRow="skip"))


@pytest.mark.parametrize("header", ["", "text,label\n"])
def test_tables_without_a_row_are_refused(build_data, tmp_path: Path, header: str):
    """A header alone is as empty as no file."""
    path = tmp_path / "seeds.csv"
    path.write_text(header)
    with pytest.raises(InputError, match="no usable row"):
        load_examples([path], build_data())


def test_conflicting_labels_follow_the_policy(build_data, write_jsonl):
    """An input with two labels teaches neither; all of its rows go, stay, or stop the run."""
    rows = [("Tea ", "x"), ("soup", "x"), ("tea", "y"), ("TEA", "x"), ("milk", "y")]
    path = write_jsonl({"text": text, "label": label} for text, label in rows)
    dropped = load_examples([path], build_data())
    assert rows_of(dropped) == [("soup", "x"), ("milk", "y")]
    assert dropped.num_conflicts == 3
    kept = load_examples([path], build_data(onConflict="keep"))
    assert (len(kept.dataset), kept.num_conflicts) == (5, 3)
    with pytest.raises(InputError, match=r"seeds\.jsonl:1 says 'x', seeds\.jsonl:3 says 'y'"):
        load_examples([path], build_data(onConflict="fail"))


def test_several_answers_to_one_prompt_are_no_conflict(build_data, write_jsonl):
    """Two good summaries of one document are two examples."""
    path = write_jsonl([{"prompt": "a", "completion": "x"}, {"prompt": "a", "completion": "y"}])
    loaded = load_examples([path], build_data(task="generation"))
    assert (len(loaded.dataset), loaded.num_conflicts) == (2, 0)


def test_files_of_all_formats_hold_the_same_rows(build_data, tmp_path: Path, write_jsonl):
    """Which format a user happens to have must not show in the rows, nor in their identities."""
    from datasets import Dataset

    rows = [{"text": 'a, "b"\nc', "label": "7"}, {"text": "NA", "label": "x"}]
    write_jsonl(rows, "rows.jsonl")
    Dataset.from_list(rows).to_parquet(str(tmp_path / "rows.parquet"))
    (tmp_path / "rows.csv").write_text('text,label\n"a, ""b""\nc",7\nNA,x\n')
    tables = {
        ending: load_examples([tmp_path / f"rows.{ending}"], build_data()).dataset
        for ending in ("jsonl", "parquet", "csv")
    }
    assert tables["jsonl"]["id"][:] == tables["parquet"]["id"][:] == tables["csv"]["id"][:]
    whole = load_examples([tmp_path], build_data())
    assert (len(whole.dataset), whole.num_duplicates) == (2, 4)


def test_columns_are_those_of_most_rows(build_data, write_jsonl):
    """One odd row at the top of a file must not decide how the others are read."""
    rows = [{"input": "May"}, *({"sentence": str(n), "label": "x"} for n in range(19))]
    loaded = load_examples([write_jsonl(rows)], build_data(onBadRow="skip"))
    assert len(loaded.dataset) == 19
    assert loaded.bad_rows[0].row == 1


def test_identity_comes_from_the_content_alone(build_data, write_jsonl):
    """Splits and journals hold on to ids: a new row before a row must not change its id."""
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    first = load_examples([write_jsonl(rows)], build_data()).dataset
    second = load_examples([write_jsonl([{"text": "c", "label": "y"}, *rows], "b.jsonl")],
                           build_data()).dataset  # fmt: skip
    assert second["id"][1:] == first["id"][:]


def test_memory_holds_the_table_and_not_the_rows(build_data, tmp_path: Path):
    """A million seeds must fit: what grows per row is the text itself and a few digests."""
    path = tmp_path / "seeds.jsonl"
    num_rows, text = 6_000, "word " * 40
    with path.open("w") as file:
        for number in range(num_rows):
            file.write(json.dumps({"text": f"{text}{number}", "label": str(number % 3)}) + "\n")
    load_examples([path], build_data())  # imports and caches
    tracemalloc.start()
    loaded = load_examples([path], build_data())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(loaded.dataset) == num_rows
    assert peak_bytes < 750 * num_rows  # all rows at once, as objects, take 920 a row
