"""Which texts give a test set away: the index against the rule in its plainest form."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from loam_runtime.data.contamination import ContaminationIndex
from loam_runtime.data.normalize import normalize_text

WORDS = st.sampled_from(["film", "good", "a", "tea", "Bad", "the", "is", "é"])
short_texts = st.lists(WORDS, max_size=8).map(" ".join) | st.text("ab ", max_size=30)
long_texts = st.lists(WORDS, min_size=45, max_size=60).map(" ".join)
texts = short_texts | long_texts


def is_contaminated(text: str, test_inputs: Sequence[str]) -> bool:
    """The rule, pair by pair."""
    return any(is_too_near(normalize_text(text), normalize_text(other)) for other in test_inputs)


def is_too_near(one: str, other: str) -> bool:
    first, second = (
        {text[i : i + 5] for i in range(max(len(text) - 4, 1))} for text in (one, other)
    )
    if one == other or len(first & second) / len(first | second) >= 0.8:
        return True
    words, other_words = one.split(" "), other.split(" ")
    if min(len(words), len(other_words)) <= 50:
        return False
    runs = {tuple(words[i : i + 13]) for i in range(len(words) - 12)}
    return any(tuple(other_words[i : i + 13]) in runs for i in range(len(other_words) - 12))


@given(test_inputs=st.lists(texts, max_size=6), text=texts, place=st.integers(0, 20))
@example(test_inputs=["abcdefghij"], text="abcdefghi", place=0)
@example(test_inputs=["a" * 4], text="A" * 4, place=0)
def test_index_agrees_with_the_rule(test_inputs: list[str], text: str, place: int):
    """A search that skips pairs must not skip a leak, nor invent one."""
    variants = [text]
    for other in test_inputs:
        variants += [other[:place] + "x" + other[place:], other + " " + text]
    index = ContaminationIndex(test_inputs)
    for variant in variants:
        assert (index.find(variant) is not None) == is_contaminated(variant, test_inputs)


def test_reason_names_the_test_row():
    """The report of rejected rows must say which test row a text came too near to."""
    long_text = " ".join(f"word{number}" for number in range(60))
    index = ContaminationIndex(["Where is my parcel?", "The waiter brought cold soup.", long_text])
    assert index.find("where is MY  parcel?") == "equal to test row 1"
    assert index.find("The waiter brought cold soups.") == (
        "character 5-gram similarity 0.89 to test row 2"
    )
    other_words = " ".join(f"other{number}" for number in range(45))
    shared = " ".join(long_text.split()[20:33])
    assert index.find(f"{other_words} {shared}") == "13 words in common with test row 3"
    assert index.find("A parcel is where?") is None


def test_word_runs_count_in_long_texts_only():
    """Short texts of one domain share phrases by nature; the characters judge them."""
    shared = " ".join(f"word{number}" for number in range(13))
    index = ContaminationIndex([shared + " x" * 38])
    assert index.find(" ".join(f"other{number}" for number in range(37)) + " " + shared) is None
    assert index.find(" ".join(f"other{number}" for number in range(38)) + " " + shared)


def test_an_empty_index_finds_nothing():
    """Without a test set there is nothing to give away."""
    assert ContaminationIndex([]).find("anything") is None
