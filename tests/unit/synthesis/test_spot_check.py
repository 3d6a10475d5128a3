"""The human spot check: what is shown, what is read back, and which rows leave."""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.synthesis.conftest import make_example
from tests.unit.synthesis.test_wrong_answers import make_facts

from loam_runtime.errors import InputError
from loam_runtime.synthesis.filters.corruptions import NUM_FOLDS
from loam_runtime.synthesis.filters.quality import QualityFilter
from loam_runtime.synthesis.filters.quality_rows import (
    REJECTED,
    KnownRows,
    build_training_rows,
    spread_folds,
)
from loam_runtime.synthesis.spot_check import draw_sample, remove_low_quality, remove_rejected
from loam_runtime.synthesis.strategies.base import Rejection
from loam_runtime.synthesis.verdict_file import (
    list_ids,
    mark_id,
    read_verdicts,
    write_sample,
)

COLUMNS = ("row id", "input", "target", "score", "source", "verdict", "comment")
REFUNDS = (
    "Where is the refund for the jacket I sent back?",
    "When do I get the refund for the jacket that I returned?",
    "I returned a jacket and still wait for my refund.",
)
LOGINS = ("I cannot log in to my account since Monday.", "The password reset mail never arrives.")


def make_rows(counts: dict[str, int]):
    return [
        make_example(f"{label} text {number}", label)
        for label, count in counts.items()
        for number in range(count)
    ]


def make_office(number: int, answer: str):
    return make_example(
        f"The Oslo office number {number} opens at 8 o'clock.",
        f"It {answer}, office number {number}.",
    )


def list_cells(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


# --- the sample --------------------------------------------------------------------------------
@given(
    counts=st.dictionaries(st.sampled_from("abcde"), st.integers(1, 40), min_size=1),
    size=st.integers(1, 60),
)
def test_every_label_is_in_the_sample(counts: dict[str, int], size: int):
    """A label that nobody looked at is one whose rows may all be wrong."""
    rows = make_rows(counts)
    sample = draw_sample(rows, {}, size, is_classification=True)
    assert len(sample) == len({row.id for row in sample}) == min(size, len(rows))
    seen = Counter(row.target for row in sample)
    if size >= len(counts):
        assert set(seen) == set(counts)
    for label, count in counts.items():
        if len(seen) == len(counts):  # shares are near the labels' own
            assert (
                abs(seen[label] - size * count / len(rows)) <= len(counts) or seen[label] == count
            )


def test_the_sample_goes_from_the_worst_to_the_best():
    """A sample of the best rows shows a filter where it is right, and hides where it is not."""
    rows = make_rows({"a": 100})
    scores = {row.id: place / 100 for place, row in enumerate(rows)}
    drawn = sorted(scores[row.id] for row in draw_sample(rows, scores, 10, is_classification=True))
    for tenth, score in enumerate(drawn):
        assert tenth / 10 <= score < (tenth + 1) / 10


def test_the_same_run_shows_the_same_rows():
    """Ids of a sample that changed under the reader's hands would reject other rows."""
    rows = make_rows({"a": 30, "b": 50})
    first = draw_sample(rows, {}, 20, is_classification=True, random_seed=3)
    assert first == draw_sample(rows[::-1], {}, 20, is_classification=True, random_seed=3)


# --- the file ----------------------------------------------------------------------------------
@given(text=st.text(max_size=30), first=st.sampled_from(["", "=", "+", "-", "@", "\t", "\r", " ="]))
def test_no_cell_is_a_formula(text: str, first: str):
    """A teacher's answer such as =HYPERLINK(...) would act on the reviewer's machine."""
    row = make_example(first + text, f"{first}{text}x", source=first + text)
    (cells,) = list_cells(write_sample([row], {row.id: 0.5}))
    assert tuple(cells) == COLUMNS
    for cell in cells.values():
        assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))


def test_all_that_a_row_says_is_shown():
    """Who approves a pair without its refused answer, or an answer without its reasons, has seen
    half of it."""
    plain = make_example("one", "two")
    (cells, _) = list_cells(write_sample([replace(plain, rejected="=three"), plain], {}))
    assert (cells["target"], cells["rejected"]) == ("two", "'=three")
    (cells,) = list_cells(write_sample([replace(plain, rationale="so it is")], {}))
    assert cells["rationale"] == "so it is"


def test_ids_survive_a_spreadsheet():
    """Sixteen digits become a rounded number, and 12e4567890123456 becomes infinite."""
    row = make_example("text", "label")
    assert write_sample([row], {}).decode("utf-8-sig").splitlines()[1].startswith("row-")
    assert list_ids(write_sample([row], {})) == [row.id]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_what_spreadsheets_write_is_read(delimiter: str, mark: bytes):
    rows = make_rows({"a": 3})
    cells = list_cells(write_sample(rows, {}))
    cells[0]["verdict"], cells[1]["verdict"] = "BAD ", "ok"
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(cells)
    verdicts = read_verdicts(mark + text.getvalue().encode(), [row.id for row in rows])
    assert (verdicts.rejected, verdicts.good) == ((rows[0].id,), (rows[1].id,))


def test_every_wrong_line_is_named():
    """One error at a time sends the reviewer back to the spreadsheet five times."""
    row = make_example("text", "a")
    lines = [
        ",".join(COLUMNS),
        f"{mark_id(row.id)},,,,,maybe,",
        "row-unknown,,,,,good,",
        ",x,,,,good,",
        f"{mark_id(row.id)},,,,,good,",
        f"{mark_id(row.id)},,,,,bad,",
    ]
    with pytest.raises(InputError) as caught:
        read_verdicts("\n".join(lines).encode(), [row.id])
    words = caught.value.message
    assert "line 2: the verdict 'maybe' is neither good nor bad" in words
    assert "line 3: no row of the sample has the id 'unknown'" in words
    assert "line 4: has no row id" in words
    assert "line 6" in words
    assert "line 5" not in words


def test_another_file_is_refused():
    with pytest.raises(InputError, match="no column row id"):
        read_verdicts(b"a,b\n1,2\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_verdicts("row id,verdict\nü,good\n".encode("latin-1"))


# --- the rows that leave -----------------------------------------------------------------------
def test_rows_like_a_rejected_one_leave_too():
    """A sample of fifty shows one of twenty rows with the same fault: the others must go too."""
    rows = [make_example(text, "refund") for text in REFUNDS]
    rows += [make_example(text, "login") for text in LOGINS]
    other = make_example(REFUNDS[1], "delivery")  # the same text under another label
    kept, removed = remove_rejected([*rows, other], [rows[0].id], is_classification=True)
    assert [one.row for one in removed] == rows[:3]
    assert removed[0].reason == "rejected by a person"
    assert rows[0].id in removed[1].reason
    assert kept == [*rows[3:], other]


def test_a_row_nearer_to_a_good_one_stays():
    """Who marks one good and one bad tells them apart: the nearer word counts."""
    rows = [make_example(text, "refund") for text in REFUNDS]
    kept, _ = remove_rejected(rows, [rows[0].id], [rows[1].id], is_classification=True)
    assert rows[1] in kept


def test_the_classifier_learns_from_the_verdicts():
    """A fault that nothing had shown it, in rows too unlike the rejected ones to leave with them:
    a person who has rejected some must not have to find them all. What was marked good stays."""
    seeds = make_facts(60)
    wrong = [make_office(number, "closes in the evening") for number in range(75, 81)]
    fine = [make_office(number, "opens in the morning") for number in range(200, 206)]
    rejected, unseen, marked = wrong[:3], wrong[3:5], wrong[5]

    def remove(known: KnownRows | None) -> list[Rejection]:
        filter_ = QualityFilter(seeds, 0.5, is_classification=False, known=known)
        kept, removed = remove_low_quality([*unseen, marked, *fine], filter_, [marked.id])
        assert {row.id for row in kept} >= {marked.id, *(row.id for row in fine)}
        return removed

    assert unseen[0] not in [one.row for one in remove(None)]
    known = KnownRows(approved=fine[:2], rejected=rejected)
    removed = remove(known)
    assert [one.row for one in removed] == unseen
    assert {one.filter for one in removed} == {"review"}
    assert all("the verdicts of the review" in one.reason and one.score < 0.5 for one in removed)


def test_a_judged_row_is_held_out_too():
    """A rejected row that the classifier has learnt by heart proves nothing about the next one."""
    seeds = [make_office(number, "opens in the morning") for number in range(10)]
    known = KnownRows(approved=[make_office(50, "a")], rejected=[make_office(60, "b")] * 2)
    folds = np.arange(10) % NUM_FOLDS
    rows = build_training_rows(seeds, folds, random.Random(0), is_classification=False, known=known)
    assert rows.is_good[-3:].tolist() == [1, 0, 0]
    assert rows.faults[-3:].tolist() == ["", REJECTED, REJECTED]
    assert rows.groups[-3:].tolist() == [10, 11, 12]
    spread = spread_folds(folds, rows.groups)
    assert spread[-3:].tolist() == [0, 1, 2]
    assert (spread[:-3] == folds[rows.groups[:-3]]).all()


def test_unknown_ids_are_named():
    """A misspelt id that rejects nothing lets the wrong row into the training."""
    with pytest.raises(InputError, match="'nothing'"):
        remove_rejected(make_rows({"a": 2}), ["nothing"], is_classification=True)
