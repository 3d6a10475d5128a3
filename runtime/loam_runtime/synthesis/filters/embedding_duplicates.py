"""Rows that say in other words what a seed or an earlier row has said."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.filters.base import Verdict

Embed = Callable[[Sequence[str]], np.ndarray]
MAX_CHARACTERS = 1000  # an embedding sees the first 256 tokens, and nothing of the rest
_BLOCK = 256
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_WORD = re.compile(r"\w+")


class EmbeddingDuplicateFilter:
    """Drops a row that means the same as a seed or an earlier row.

    The same: the inputs have a cosine similarity of at least `similarity`, the targets too
    where they are no labels. What an embedding hardly sees decides against it: rows that name
    other numbers ("order 11", "order 22") or that have the same words in another order ("from
    Boston to Denver", "from Denver to Boston") are different. A row over 1,000 characters is not
    judged, since its embedding is that of its beginning.

    Args:
        seeds: rows that need no second copy.
        embed: [num_texts, dimensions] of unit length.
        similarity: least cosine similarity of a duplicate.
        is_classification: targets are labels, and not compared.
    """

    name = "embeddingDuplicates"

    def __init__(
        self,
        seeds: Sequence[Example],
        embed: Embed,
        *,
        similarity: float,
        is_classification: bool,
    ) -> None:
        self._embed = embed
        self._similarity = similarity
        self._is_classification = is_classification
        self._seeds = tuple(seeds)
        self._known: list[_Block] | None = None

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """See `Filter`. Rows that pass are remembered."""
        known = self._load_seeds()
        verdicts: list[Verdict] = []
        for start in range(0, len(rows), _BLOCK):
            block = self._read_block(rows[start : start + _BLOCK])
            reasons = self._find_all(block)
            verdicts += map(Verdict, reasons)
            known.append(block.keep([not reason for reason in reasons]))
        return verdicts

    def describe(self) -> dict[str, object]:
        """See `Filter`."""
        return {"similarity": self._similarity}

    def _load_seeds(self) -> list[_Block]:
        # At the first row, not before: embedding the seeds takes seconds.
        if self._known is None:
            self._known = [self._read_block(self._seeds, source="a seed")]
        return self._known

    def _read_block(self, rows: Sequence[Example], source: str = "") -> _Block:
        parts = [[row.input or row.target for row in rows]]
        if not self._is_classification:
            parts.append([row.target for row in rows])
        return _Block(
            vectors=[self._embed(part) for part in parts],
            texts=list(zip(*parts, strict=True)),
            sources=[source or row.source for row in rows],
        )

    def _find_all(self, block: _Block) -> list[str]:
        """A reason for every row of the block, "" where there is none."""
        reasons = [""] * len(block.sources)
        for other in [*(self._known or []), block]:
            is_close = other.compare(block) >= self._similarity
            for place, other_place in zip(*np.nonzero(is_close), strict=True):
                is_earlier = other is not block or (
                    other_place < place and not reasons[other_place]
                )
                if not reasons[place] and is_earlier and block.may_equal(place, other, other_place):
                    reasons[place] = f"means the same as {other.sources[other_place]}"
        return reasons


class _Block:
    """Some rows, part by part (input, target), as vectors and as texts."""

    def __init__(
        self, vectors: list[np.ndarray], texts: list[tuple[str, ...]], sources: list[str]
    ) -> None:
        self._vectors = vectors
        self._texts = texts
        self.sources = sources

    def compare(self, rows: _Block) -> np.ndarray:
        """[len(rows), len(self)]: cosine similarity of the parts that are least alike."""
        pairs = zip(rows._vectors, self._vectors, strict=True)
        return np.minimum.reduce([theirs @ own.T for theirs, own in pairs])

    def may_equal(self, place: int, other: _Block, other_place: int) -> bool:
        """Whether nothing that an embedding does not see speaks against two rows' being equal."""
        pairs = zip(self._texts[place], other._texts[other_place], strict=True)
        return all(may_mean_same(*pair) for pair in pairs)

    def keep(self, is_kept: Sequence[bool]) -> _Block:
        """The rows so marked."""
        places = np.flatnonzero(is_kept)
        return _Block(
            [part[places] for part in self._vectors],
            [self._texts[place] for place in places],
            [self.sources[place] for place in places],
        )


def may_mean_same(first: str, second: str) -> bool:
    """Whether length, numbers and the order of words let two close embeddings mean the same."""
    if max(len(first), len(second)) > MAX_CHARACTERS:
        return False
    if _NUMBER.findall(first) != _NUMBER.findall(second):
        return False
    words, others = (_WORD.findall(text.casefold()) for text in (first, second))
    return words == others or sorted(words) != sorted(others)
