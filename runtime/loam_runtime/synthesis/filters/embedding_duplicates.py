"""Rows that say in other words what a seed or an earlier row has said."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Set

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
            found = self._find_all(block)
            verdicts += found
            known.append(block.keep([not verdict.reason for verdict in found]))
        return verdicts

    def forget(self, rows: Sequence[Example]) -> None:
        """See `RememberingFilter`."""
        gone = {row.id for row in rows}
        self._known = [block.drop(gone) for block in self._known] if self._known else None

    def describe(self) -> dict[str, object]:
        """See `Filter`."""
        return {"similarity": self._similarity}

    def _load_seeds(self) -> list[_Block]:
        # At the first row, not before: embedding the seeds takes seconds.
        if self._known is None:
            self._known = [self._read_block(self._seeds, are_seeds=True)]
        return self._known

    def _read_block(self, rows: Sequence[Example], *, are_seeds: bool = False) -> _Block:
        parts = [[row.input or row.target for row in rows]]
        if not self._is_classification:
            parts.append([row.target for row in rows])
        return _Block(
            vectors=[self._embed(part) for part in parts],
            texts=list(zip(*parts, strict=True)),
            rows=[None if are_seeds else row for row in rows],
        )

    def _find_all(self, block: _Block) -> list[Verdict]:
        """One verdict per row of the block."""
        verdicts = [Verdict()] * len(block.rows)
        for other in [*(self._known or []), block]:
            is_close = other.compare(block) >= self._similarity
            for place, other_place in zip(*np.nonzero(is_close), strict=True):
                is_earlier = other is not block or (
                    other_place < place and not verdicts[other_place].reason
                )
                is_open = is_earlier and not verdicts[place].reason
                if is_open and block.may_equal(place, other, other_place):
                    verdicts[place] = _describe_copy(other.rows[other_place])
        return verdicts


def _describe_copy(known: Example | None) -> Verdict:
    if known is None:
        return Verdict("means the same as a seed")
    return Verdict(f"means the same as {known.source}", copies=known.id)


class _Block:
    """Some rows, part by part (input, target), as vectors and as texts; None for a seed."""

    def __init__(
        self,
        vectors: list[np.ndarray],
        texts: list[tuple[str, ...]],
        rows: list[Example | None],
    ) -> None:
        self._vectors = vectors
        self._texts = texts
        self.rows = rows

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
            [self.rows[place] for place in places],
        )

    def drop(self, gone: Set[str]) -> _Block:
        """The rows that are not among these ids; seeds stay."""
        is_kept = [row is None or row.id not in gone for row in self.rows]
        return self if all(is_kept) else self.keep(is_kept)


def may_mean_same(first: str, second: str) -> bool:
    """Whether length, numbers and the order of words let two close embeddings mean the same."""
    if max(len(first), len(second)) > MAX_CHARACTERS:
        return False
    if _NUMBER.findall(first) != _NUMBER.findall(second):
        return False
    words, others = (_WORD.findall(text.casefold()) for text in (first, second))
    return words == others or sorted(words) != sorted(others)
