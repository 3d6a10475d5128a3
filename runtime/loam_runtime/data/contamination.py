"""Which texts give a test set away.

A text is contaminated by a test input when the two are equal after normalisation, when their
sets of character 5-grams have a Jaccard similarity of at least 0.8, or when, both being over
50 words long, they share 13 words in a row. Runs of words alone would never fire on short
texts, hence the characters.

The search is exact. By the prefix filter (Chaudhuri, Ganti and Kaushik, 2006), two sets with a
Jaccard similarity of t share an element among the n - ceil(t n) + 1 rarest of each, n being the
set's size; only texts that do are compared in full.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction

from loam_runtime.data.normalize import normalize_text

GRAM_LENGTH = 5
MIN_JACCARD = Fraction(4, 5)
MIN_SHARED_WORDS = 13
LONG_TEXT_WORDS = 50


def extract_grams(normalized: str) -> frozenset[str]:
    """Character 5-grams of a normalised text; the text itself where it is shorter."""
    last = max(len(normalized) - GRAM_LENGTH, 0)
    return frozenset(normalized[start : start + GRAM_LENGTH] for start in range(last + 1))


def extract_word_runs(normalized: str) -> set[str]:
    """Every 13 words in a row of a normalised text over 50 words long; none of a shorter one."""
    words = normalized.split(" ")
    if len(words) <= LONG_TEXT_WORDS:
        return set()
    starts = range(len(words) - MIN_SHARED_WORDS + 1)
    return {" ".join(words[start : start + MIN_SHARED_WORDS]) for start in starts}


class ContaminationIndex:
    """An index over test inputs, asked once for every text that might enter training.

    Args:
        test_inputs: what the tested model is given; of a row with a context, both.
        names: what the rows are called in a reason; "test row 1", ... where not given.
    """

    def __init__(self, test_inputs: Sequence[str], names: Sequence[str] = ()) -> None:
        self._names = list(names) or [f"test row {row + 1}" for row in range(len(test_inputs))]
        normalized = [normalize_text(text) for text in test_inputs]
        self._rows_by_text: dict[str, int] = {}
        self._rows_by_word_run: dict[str, int] = {}
        for row, text in enumerate(normalized):
            self._rows_by_text.setdefault(text, row)
            for run in extract_word_runs(text):
                self._rows_by_word_run.setdefault(run, row)
        self._grams = [extract_grams(text) for text in normalized]
        self._frequencies = Counter(gram for grams in self._grams for gram in grams)
        self._rows_by_gram: dict[str, list[int]] = defaultdict(list)
        for row, grams in enumerate(self._grams):
            for gram in self._select_prefix(grams):
                self._rows_by_gram[gram].append(row)

    def find(self, text: str) -> str | None:
        """Why the text is contaminated, naming the held-out row; None if clean."""
        normalized = normalize_text(text)
        row = self._rows_by_text.get(normalized)
        if row is not None:
            return f"equal to {self._names[row]}"
        found = self._find_similar(extract_grams(normalized))
        if found is not None:
            row, similarity = found
            return f"character 5-gram similarity {similarity:.2f} to {self._names[row]}"
        runs = extract_word_runs(normalized)
        rows = [self._rows_by_word_run[run] for run in runs if run in self._rows_by_word_run]
        if not rows:
            return None
        return f"{MIN_SHARED_WORDS} words in common with {self._names[min(rows)]}"

    def _find_similar(self, grams: frozenset[str]) -> tuple[int, float] | None:
        """The first test row that is similar enough, and how similar it is."""
        candidates = {
            row for gram in self._select_prefix(grams) for row in self._rows_by_gram.get(gram, ())
        }
        for row in sorted(candidates):
            others = self._grams[row]
            if _reaches_threshold(min(len(grams), len(others)), max(len(grams), len(others))):
                num_shared = len(grams & others)
                num_all = len(grams) + len(others) - num_shared
                if _reaches_threshold(num_shared, num_all):
                    return row, num_shared / num_all
        return None

    def _select_prefix(self, grams: frozenset[str]) -> list[str]:
        """The rarest 5-grams of a set, by an order that is the same for every set.

        Those that no test input has are the rarest of all, and left out: they find nothing.
        """
        min_shared = -(-MIN_JACCARD.numerator * len(grams) // MIN_JACCARD.denominator)
        known = [gram for gram in grams if gram in self._frequencies]
        length = len(known) - min_shared + 1
        if length <= 0:
            return []
        return sorted(known, key=lambda gram: (self._frequencies[gram], gram))[:length]


def _reaches_threshold(num_shared: int, num_all: int) -> bool:
    return num_shared * MIN_JACCARD.denominator >= num_all * MIN_JACCARD.numerator
