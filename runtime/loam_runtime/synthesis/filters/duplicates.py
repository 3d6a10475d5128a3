"""Rows that say again what a seed or an earlier row has said."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from loam_runtime.data.contamination import MIN_JACCARD, extract_grams
from loam_runtime.data.examples import Example
from loam_runtime.data.normalize import normalize_text
from loam_runtime.synthesis.filters.base import Verdict


class DuplicateFilter:
    """Drops a row that equals a seed or an earlier row after normalisation, or nearly does.

    Nearly: a Jaccard similarity of at least 0.8 of the character 5-grams, of the input in
    classification, of input and target together elsewhere (several questions may share one long
    passage). The search is exact, by the prefix filter of `data/contamination.py`. Rows arrive one
    after another and the order of grams must not change, so a gram's rarity is its rarity in the
    seeds.

    Args:
        seeds: rows that need no second copy.
        is_classification: what is compared, see above.
    """

    name = "duplicates"

    def __init__(self, seeds: Iterable[Example], *, is_classification: bool) -> None:
        self._is_classification = is_classification
        self._exact: dict[str, str] = {}
        self._grams: list[frozenset[str]] = []
        self._sources: list[str] = []
        self._rows_by_gram: dict[str, list[int]] = defaultdict(list)
        texts = [self._get_text(seed) for seed in seeds]
        self._frequencies = Counter(gram for text in texts for gram in extract_grams(text))
        for text in texts:
            self._add(text, "a seed")

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """See `Filter`. Rows that pass are remembered."""
        verdicts = []
        for row in rows:
            text = self._get_text(row)
            reason = self._find(text)
            if not reason:
                self._add(text, row.source)
            verdicts.append(Verdict(reason))
        return verdicts

    def describe(self) -> dict[str, object]:
        """See `Filter`."""
        return {"near_duplicate_jaccard": float(MIN_JACCARD)}

    def _get_text(self, row: Example) -> str:
        # Without the label: one input has one label, so the second of two is dropped too.
        text = row.input if self._is_classification else f"{row.input}\n{row.target}"
        return normalize_text(text)

    def _find(self, text: str) -> str:
        if text in self._exact:
            return f"equal to {self._exact[text]}"
        grams = extract_grams(text)
        candidates = {
            place
            for gram in self._select_prefix(grams)
            for place in self._rows_by_gram.get(gram, ())
        }
        for place in sorted(candidates):
            other = self._grams[place]
            if min(len(grams), len(other)) < _ceil_share(max(len(grams), len(other))):
                continue  # too different in size to be similar
            num_shared = len(grams & other)
            num_all = len(grams) + len(other) - num_shared
            if num_shared >= MIN_JACCARD * num_all:
                return f"nearly equal to {self._sources[place]}"
        return ""

    def _add(self, text: str, source: str) -> None:
        if text in self._exact:
            return
        self._exact[text] = source
        grams = extract_grams(text)
        for gram in self._select_prefix(grams):
            self._rows_by_gram[gram].append(len(self._grams))
        self._grams.append(grams)
        self._sources.append(source)

    def _select_prefix(self, grams: frozenset[str]) -> list[str]:
        """The first grams of a set: similar sets have one of them in common."""

        def rank(gram: str) -> tuple[int, int, str]:
            return self._frequencies[gram], zlib.crc32(gram.encode("utf-8", "surrogatepass")), gram

        return sorted(grams, key=rank)[: len(grams) - _ceil_share(len(grams)) + 1]


def _ceil_share(count: int) -> int:
    """Least size of a similar set, and of the part in common, for a set of this size."""
    return -(-MIN_JACCARD.numerator * count // MIN_JACCARD.denominator)
