"""How long texts are, and which words they are made of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"[^\W\d_]{3,}")
MIN_ROWS_OF_A_TERM = 2
NUM_TERMS = 12


@dataclass(frozen=True, slots=True)
class LengthRange:
    """Words of a text over the rows: the 10th, 50th and 90th percentile."""

    low: int
    middle: int
    high: int


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words of several texts, case folded.

    Attributes:
        num_words: running words.
        num_distinct: different ones.
        terms: those that mark subjects, most telling first; see `find_terms`.
    """

    num_words: int
    num_distinct: int
    terms: tuple[str, ...]


def measure_lengths(texts: Sequence[str]) -> LengthRange:
    """The length range of at least one text."""
    lengths = sorted(len(text.split()) for text in texts)

    def quantile(share: float) -> int:
        return lengths[round(share * (len(lengths) - 1))]

    return LengthRange(quantile(0.1), quantile(0.5), quantile(0.9))


def measure_vocabulary(texts: Sequence[str]) -> Vocabulary:
    """Running words, different words and subject terms."""
    words = Counter(word for text in texts for word in text.casefold().split())
    return Vocabulary(words.total(), len(words), find_terms(texts))


def find_terms(texts: Sequence[str]) -> tuple[str, ...]:
    """Words that mark subjects: in several texts but not in most, as function words are.

    A word's weight is its inverse document frequency times its length in letters, times the
    number of texts that hold it: without a list of stop words it works in any language that
    puts spaces between words.
    """
    holding = Counter(word for text in texts for word in set(_WORD.findall(text.casefold())))
    most = max(MIN_ROWS_OF_A_TERM, len(texts) // 4)
    weights = {
        word: count * (len(word) - 2) / (1 + count / max(1, len(texts)))
        for word, count in holding.items()
        if MIN_ROWS_OF_A_TERM <= count <= most and len(word) > 3
    }
    return tuple(sorted(weights, key=lambda word: (-weights[word], word))[:NUM_TERMS])
