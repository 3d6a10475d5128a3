"""What is read from the seeds."""

from __future__ import annotations

import json

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.analysis.seeds import analyze_seeds
from loam_runtime.synthesis.analysis.texts import find_terms


def make_rows(*pairs: tuple[str, str]) -> list[Example]:
    return [Example(str(place), text, target) for place, (text, target) in enumerate(pairs)]


def test_pattern_of_the_task() -> None:
    """The task's shape is seen in the rows: it decides what a teacher is told."""
    copied = make_rows(*((f"Order {n} is late. When?", f"order {n}") for n in range(5)))
    assert "copied" in analyze_seeds(copied, is_classification=False).pattern
    conventions = analyze_seeds(copied, is_classification=False).target_conventions
    assert "is copied from its input, word for word" in conventions
    plain = make_rows(*(("", f"text {n}") for n in range(5)))
    assert "Plain text" in analyze_seeds(plain, is_classification=False).pattern
    long = make_rows(*(("word " * 60, f"all in all it is {n}") for n in range(5)))
    assert "shorter" in analyze_seeds(long, is_classification=False).pattern


def test_keys_of_structured_answers() -> None:
    """The keys that all answers share are said; a teacher who guesses them writes waste."""
    rows = make_rows(*((f"row {n}", json.dumps({"day": n, "who": "x"})) for n in range(5)))
    found = analyze_seeds(rows, is_classification=False).target_conventions
    assert "has the JSON keys day, who" in found


def test_gaps() -> None:
    """A rare label, a label without long rows and an absent style are told, by name."""
    common = [(f"parcel {n} " + "is late " * (n % 5 * 3), "delivery") for n in range(12)]
    short = [(f"bill {n}", "billing") for n in range(8)]
    profile = analyze_seeds(
        make_rows(*common, *short, ("odd one", "other")), is_classification=True
    )
    assert any("'other' has 1 of 21" in gap for gap in profile.gaps)
    assert any("'billing' is long" in gap for gap in profile.gaps)
    assert "No seed asks a question." in profile.gaps
    assert not any("'delivery'" in gap for gap in profile.gaps)
    assert profile.labels == {"delivery": 12, "billing": 8, "other": 1}


def test_terms_are_subjects() -> None:
    """Words of nearly all rows (function words) and of one row name no subject."""
    texts = [f"please tell where the {noun} went, ref {n}" for n, noun in enumerate("ab")]
    texts += ["please tell where the refund went"] * 2 + ["please tell where the kettle went"] * 2
    texts += ["please tell where the others went"] * 4
    terms = find_terms(texts)
    assert {"refund", "kettle"} <= set(terms)
    assert not {"please", "where"} & set(terms)


def test_one_row_is_enough() -> None:
    """A single seed is analysed, and no convention or gap is made up from it."""
    profile = analyze_seeds(make_rows(("hello there", "x")), is_classification=True)
    assert profile.input_conventions == profile.gaps == ()
    assert json.loads(json.dumps(profile.describe()))["num_rows"] == 1
