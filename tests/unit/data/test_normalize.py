"""How texts are cleaned and compared."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loam_runtime.data.normalize import clean_text, digest_texts, has_visible_text, normalize_text


@given(st.text())
@example("ß\u0301\u0345")
def test_normalising_twice_changes_nothing(text: str):
    """Were it not so, equality would depend on how often a text had been read and written."""
    once = normalize_text(text)
    assert normalize_text(once) == once


@given(st.text())
def test_cleaning_keeps_every_visible_character(text: str):
    """Cleaning may drop white space around a text, never what its author wrote."""
    cleaned = clean_text(text)
    kept = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    assert cleaned in kept
    assert has_visible_text(cleaned) == has_visible_text(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "STRASSE"),
        ("cafe\u0301", "café"),
        ("ﬁne  film\n", "Fine film"),
        ("\uff11\uff12", "12"),
    ],
)
def test_variants_of_a_text_are_equal(one: str, other: str):
    """Each pair would be read as one text by a human: in train and test it is a leak."""
    assert normalize_text(one) == normalize_text(other)


def test_parts_of_a_digest_do_not_run_together():
    """Two rows must not be called equal because one's input ends where the other's context does."""
    assert digest_texts("ab", "c") != digest_texts("a", "bc")


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b\u200d", "\u00a0\u3000", "\ufeff"])
def test_invisible_text_is_seen_as_empty(text: str):
    """A zero-width space looks like a text and teaches nothing."""
    assert not has_visible_text(text)
