"""Rows that say again nearly word for word what a seed or an earlier row has said."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from datasketch import MinHash, MinHashLSH

from loam_runtime.data.contamination import MIN_JACCARD, extract_grams
from loam_runtime.data.examples import Example
from loam_runtime.data.normalize import normalize_text
from loam_runtime.synthesis.filters.base import Verdict, get_compared_text

NUM_BANDS = 20
BAND_SIZE = 5
NUM_HASHES = NUM_BANDS * BAND_SIZE


class NearDuplicateFilter:
    """Drops a row whose character 5-grams are nearly those of a seed or of an earlier row.

    Nearly: a Jaccard similarity of at least `similarity`. Candidates come from MinHash LSH
    (Broder, 1997; Indyk and Motwani, 1998), 20 bands of 5 hashes, and every one is compared by
    its true similarity. So nothing is dropped below the threshold, however short the texts are,
    and a pair at 0.8 is missed once in 2,800 times, (1 - 0.8^5)^20. An exact index needs time
    that grows with the square of the rows: hours where this takes a minute.

    Args:
        seeds: rows that need no second copy.
        similarity: least Jaccard similarity of a duplicate, 0.5 to 1.
        is_classification: what is compared, see `get_compared_text`.
    """

    name = "nearDuplicates"

    def __init__(
        self,
        seeds: Iterable[Example],
        *,
        similarity: float = float(MIN_JACCARD),
        is_classification: bool,
    ) -> None:
        self._similarity = similarity
        self._is_classification = is_classification
        self._texts: list[str] = []
        self._rows: list[Example | None] = []  # None for a seed
        self._places: dict[str, int] = {}  # by id, of the rows that may be forgotten
        self._index = MinHashLSH(num_perm=NUM_HASHES, params=(NUM_BANDS, BAND_SIZE))
        texts = [self._normalize(seed) for seed in seeds]
        for text, sketch in zip(texts, _sketch_texts(texts), strict=True):
            self._add(text, None, sketch)

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """See `Filter`. Rows that pass are remembered."""
        texts = [self._normalize(row) for row in rows]
        verdicts = []
        for row, text, sketch in zip(rows, texts, _sketch_texts(texts), strict=True):
            verdict = self._find(text, sketch)
            if not verdict.reason:
                self._add(text, row, sketch)
            verdicts.append(verdict)
        return verdicts

    def forget(self, rows: Sequence[Example]) -> None:
        """See `RememberingFilter`."""
        for row in rows:
            place = self._places.pop(row.id, None)
            if place is not None:
                self._index.remove(place)

    def describe(self) -> dict[str, object]:
        """See `Filter`."""
        return {"similarity": self._similarity}

    def _normalize(self, row: Example) -> str:
        return normalize_text(get_compared_text(row, is_classification=self._is_classification))

    def _find(self, text: str, sketch: MinHash) -> Verdict:
        candidates = self._index.query(sketch)
        if not candidates:
            return Verdict()
        grams = extract_grams(text)
        for place in sorted(candidates):
            others = _recall_grams(self._texts[place])
            num_shared = len(grams & others)
            similarity = num_shared / (len(grams) + len(others) - num_shared)
            if similarity >= self._similarity:
                row = self._rows[place]
                if row is None:
                    return Verdict("nearly equal to a seed")
                return Verdict(f"nearly equal to {row.source}", copies=row.id)
        return Verdict()

    def _add(self, text: str, row: Example | None, sketch: MinHash) -> None:
        place = len(self._texts)
        self._index.insert(place, sketch, check_duplication=False)
        self._texts.append(text)
        self._rows.append(row)
        if row is not None:
            self._places[row.id] = place


def _sketch_texts(texts: Iterable[str]) -> Iterator[MinHash]:
    """MinHashes of normalised texts; one is made when it is asked for."""
    encoded = (
        [gram.encode("utf-8", "surrogatepass") for gram in extract_grams(text)] for text in texts
    )
    return MinHash.generator(encoded, num_perm=NUM_HASHES, hashfunc=zlib.crc32)


# Kept as texts and cut anew when compared: the grams of 100,000 rows would take a gigabyte.
_recall_grams = lru_cache(maxsize=4096)(extract_grams)
