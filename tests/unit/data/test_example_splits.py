"""Which rows train, validate and test."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tools.cases import count_cases

from loam_runtime.data.examples import Example, Turn, to_dataset
from loam_runtime.data.splits import Splits, split_examples
from loam_runtime.errors import InputError


def build_rows(counts: dict[str, int], prefix: str = "text", group_size: int = 0) -> list[Example]:
    """So many rows of each label, in groups of `group_size` rows where that is not 0."""
    rows = []
    for label, count in counts.items():
        for number in range(count):
            name = f"{prefix} {label} {number}"
            group = f"{label}{number // group_size}" if group_size else ""
            source = f"{prefix}.jsonl:{number + 1}"
            rows.append(Example(name, name, label, group=group, source=source))
    return rows


def split(build_data, rows: Sequence[Example], test=None, seed=0, **data) -> Splits:
    given_test = None if test is None else to_dataset(test)
    return split_examples(to_dataset(rows), given_test, build_data(**data), seed)


def sides_of(splits: Splits) -> dict[str, list[str]]:
    return {name: side["ids"] for name, side in splits.to_record()["sides"].items()}


def count_labels(splits: Splits, side: str) -> dict[str, int]:
    return splits.to_record()["sides"][side]["rowsByLabel"]


def test_test_set_comes_first_and_every_class_gets_its_share(build_data):
    """30 % of each class are held out, then 20 % of the rest; no row is lost or used twice."""
    rows = build_rows({"a": 100, "b": 50})
    splits = split(build_data, rows)
    assert count_labels(splits, "test") == {"a": 30, "b": 15}
    assert count_labels(splits, "validation") == {"a": 14, "b": 7}
    assert count_labels(splits, "train") == {"a": 56, "b": 28}
    ids = [row_id for side in sides_of(splits).values() for row_id in side]
    assert sorted(ids) == sorted(row.id for row in rows)


@settings(max_examples=count_cases(30))
@given(
    counts=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 30), min_size=2),
    group_size=st.integers(0, 4),
    mixes_classes=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_no_split_loses_a_class_a_row_or_a_group(
    build_data, counts, group_size, mixes_classes, seed
):
    """Every class can be learnt, and no group tells the test what training has seen."""
    rows = build_rows(counts, group_size=group_size)
    if mixes_classes:
        rows = [replace(row, group=row.group.removeprefix(row.target)) for row in rows]
    splits = split(build_data, rows, seed=seed)
    sides = sides_of(splits)
    assert count_labels(splits, "train").keys() == counts.keys()
    ids = [row_id for side in sides.values() for row_id in side]
    assert sorted(ids) == sorted(row.id for row in rows)
    groups = {row.id: row.group or row.id for row in rows}
    seen = [{groups[row_id] for row_id in side} for side in sides.values()]
    assert sum(map(len, seen)) == len(set().union(*seen))


def test_equal_inputs_stay_together(build_data):
    """Two rows that differ in letter case alone would leak from test into train."""
    rows = build_rows({"a": 40, "b": 40})
    twins = [Example(f"twin {row.id}", row.input.upper(), row.target) for row in rows]
    sides = sides_of(split(build_data, [*rows, *twins]))
    for ids in sides.values():
        assert {f"twin {row_id}" for row_id in ids if not row_id.startswith("twin")} == {
            row_id for row_id in ids if row_id.startswith("twin")
        }


def test_rows_tied_through_others_stay_together(build_data):
    """A text that stands in two groups ties them to each other."""
    rows = build_rows({"a": 30, "b": 30}, group_size=1)
    chain = [
        Example(f"chain {n}", f"shared {n // 2}", "a", group=f"chain {(n + 1) // 2}")
        for n in range(6)
    ]
    for seed in range(5):
        sides = sides_of(split(build_data, [*rows, *chain], seed=seed))
        holding = [name for name, ids in sides.items() if any("chain" in row_id for row_id in ids)]
        assert len(holding) == 1


def test_split_does_not_depend_on_the_order_of_rows(build_data):
    """The same examples give the same split however a file is sorted; another seed another."""
    rows = build_rows({"a": 60, "b": 30}, group_size=2)
    shuffled = random.Random(1).sample(rows, len(rows))
    first, second = sides_of(split(build_data, rows)), sides_of(split(build_data, shuffled))
    assert {name: sorted(ids) for name, ids in first.items()} == {
        name: sorted(ids) for name, ids in second.items()
    }
    assert sides_of(split(build_data, rows, seed=1)) != first


def test_a_new_row_moves_hardly_any_other(build_data):
    """Else every added example would change the test set, and no two runs could be compared."""
    rows = build_rows({"a": 100, "b": 100})
    before = sides_of(split(build_data, rows))
    after = sides_of(split(build_data, [*rows, Example("new", "something new", "a")]))
    assert len(set(before["test"]) ^ set(after["test"])) <= 2
    assert len(set(before["train"]) ^ set(after["train"])) <= 4


def test_few_seeds_are_all_for_training(build_data):
    """With four examples a class nothing is held out, and the notes say what that costs."""
    splits = split(build_data, build_rows({"a": 4, "b": 4}))
    assert splits.test is None
    assert splits.validation is None
    assert any("not assessable" in note for note in splits.notes)
    assert any("fixed number of steps" in note for note in splits.notes)


def test_validation_follows_its_rule(build_data):
    """Early stopping on a handful of rows would be noise: ten rows a class, or none."""
    test = build_rows({"a": 30, "b": 30}, "test")
    enough = split(build_data, build_rows({"a": 10, "b": 20}), test)
    assert count_labels(enough, "validation") == {"a": 2, "b": 4}
    assert split(build_data, build_rows({"a": 9, "b": 20}), test).validation is None
    rows = build_rows({"a": 20, "b": 20})
    assert split(build_data, rows, test, validation={"mode": "none"}).validation is None
    half = split(build_data, rows, test, validation={"mode": "fraction", "fraction": 0.5})
    assert count_labels(half, "validation") == {"a": 10, "b": 10}
    lone = build_rows({"a": 20, "b": 1})
    most = split(build_data, lone, test, validation={"mode": "fraction", "fraction": 0.8})
    assert count_labels(most, "train") == {"a": 4, "b": 1}
    with pytest.raises(InputError, match="leaves no validation row"):
        split(
            build_data,
            build_rows({"a": 2, "b": 2}),
            test,
            validation={"mode": "fraction", "fraction": 0.1},
        )


def test_given_validation_rows_are_used_and_checked(build_data):
    """Validation rows that are in train or test would choose the wrong checkpoint."""
    rows, test = build_rows({"a": 20, "b": 20}), build_rows({"a": 30, "b": 30}, "test")
    mode = {"mode": "uri", "uri": "file://validation.jsonl"}
    given_rows = build_rows({"a": 3, "b": 3}, "validation")
    spec = build_data(validation=mode)
    splits = split_examples(to_dataset(rows), to_dataset(test), spec, 0, to_dataset(given_rows))
    assert len(splits.validation) == 6
    for leaking in (rows[:1], test[:1]):
        with pytest.raises(InputError, match="1 rows of the"):
            split_examples(to_dataset(rows), to_dataset(test), spec, 0, to_dataset(leaking))
    with pytest.raises(InputError, match="there are no rows"):
        split_examples(to_dataset(rows), to_dataset(test), spec, 0)


@pytest.mark.parametrize("is_test_given", [True, False])
def test_a_group_is_not_in_validation_and_elsewhere(build_data, is_test_given: bool):
    """A checkpoint chosen on rows of a test row's group flatters the verdict, as one chosen on
    rows of a training row's group misses overfitting; a test set that was held out counts too."""
    rows = build_rows({"a": 20, "b": 20}, group_size=2)
    test = [replace(row, group=f"test {row.group}") for row in build_rows({"a": 9}, "t", 3)]
    spec = build_data(validation={"mode": "uri", "uri": "file://validation.jsonl"})
    given_test = to_dataset(test) if is_test_given else None
    free = [replace(row, group="v") for row in build_rows({"a": 2}, "validation")]
    splits = split_examples(to_dataset(rows), given_test, spec, 0, to_dataset(free))
    for side in (splits.train, splits.test):
        leaking = to_dataset([replace(row, group=side["group"][0]) for row in free])
        with pytest.raises(InputError, match="1 groups have rows in the training data and in the"):
            split_examples(to_dataset(rows), given_test, spec, 0, leaking)


def test_overlap_names_the_rows_of_both_sides(build_data):
    """A test row that was trained on makes the verdict worthless; both places must be found."""
    rows = build_rows({"a": 12, "b": 12}, "seeds")
    leak = [
        Example("t1", "  SEEDS a 4", "a", source="test.jsonl:1"),
        Example("t2", "seeds b 9", "a", source="test.jsonl:2"),
        Example("t3", "something else", "a", source="test.jsonl:3"),
    ]
    with pytest.raises(InputError) as caught:
        split(build_data, rows, leak)
    message = str(caught.value)
    assert "2 rows of the test set" in message
    assert "test.jsonl:1 is seeds.jsonl:5, test.jsonl:2 is seeds.jsonl:10" in message


def test_same_question_in_another_conversation_is_no_overlap(build_data):
    """What counts is all that the model is given: "and in May?" may end many conversations."""
    rows = [Example("1", "and in May?", "7", context=(Turn("user", "sales in April?"),))]
    test = [Example("2", "and in May?", "9", context=(Turn("user", "staff in April?"),))]
    assert split(build_data, rows, test, task="generation").test is not None
    with pytest.raises(InputError, match="1 rows of the test set"):
        split(build_data, rows, rows, task="generation")


def test_plain_texts_overlap_by_their_text(build_data):
    """They have no input: without this, all of them would be called equal, or none."""
    rows, test = [Example("1", "", "once upon a time")], [Example("2", "", "another story")]
    assert split(build_data, rows, test, task="text").test is not None
    with pytest.raises(InputError, match="1 rows of the test set"):
        split(build_data, rows, rows, task="text")


def test_labels_and_groups_of_a_given_test_set_are_checked(build_data):
    """A label that was never shown cannot be learnt; a shared group is a leak."""
    rows = build_rows({"a": 12, "b": 12}, group_size=3)
    with pytest.raises(InputError, match=r"no training row has: \['c'\]"):
        split(build_data, rows, build_rows({"a": 2, "c": 2}, "test"))
    with pytest.raises(InputError, match=r"1 groups .* \['a0'\]"):
        split(build_data, rows, build_rows({"a": 2}, "test", group_size=3))


def test_seeds_that_cannot_be_split(build_data):
    """One class only leaves nothing to tell apart; a group column must exist."""
    with pytest.raises(InputError, match="All 30 seeds have the label 'a'"):
        split(build_data, build_rows({"a": 30}))
    with pytest.raises(InputError, match="'customer', but no seed has it"):
        split(build_data, build_rows({"a": 9, "b": 9}), fields={"group": "customer"})


def test_small_test_sets_are_announced(build_data):
    """Under fifty rows no verdict is given; the plan must say so before the run does."""
    splits = split(build_data, build_rows({"a": 9, "b": 9}), build_rows({"a": 5, "b": 5}, "test"))
    assert any("not assessable under 50" in note for note in splits.notes)


def test_record_is_plain_json(build_data):
    """The split is kept with the run and must be readable without Loam."""
    record = split(build_data, build_rows({"a": 30, "b": 30})).to_record()
    assert json.loads(json.dumps(record)) == record
    assert record["sides"]["test"]["numRows"] == 18
