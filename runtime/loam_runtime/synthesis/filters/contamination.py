"""Rows that give a held-out row away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from loam_runtime.data.contamination import ContaminationIndex
from loam_runtime.data.examples import Example
from loam_runtime.data.normalize import normalize_text
from loam_runtime.synthesis.filters.base import Verdict
from loam_runtime.synthesis.filters.embedding_duplicates import Embed

FLAG_SIMILARITY = 0.95
NUM_SHOWN = 10


class ContaminationFilter:
    """Drops a row whose input is, or nearly is, an input of the test or validation set.

    The rules are those of `ContaminationIndex`. A row that only means the same as a held-out one
    (cosine similarity of 0.95 or more) is counted and shown, and stays: short questions of one
    kind are that close by nature.

    Where inputs are a context and, behind a blank line, a question about it, the context counts by
    itself, too: another question about a held-out passage teaches what the passage says. A passage
    that the seeds have is not held out, whatever else was asked about it.

    Args:
        held_out: what the tested model is given (for plain text, the texts) of test and validation
            rows, by the row's name in a reason: "test row 1".
        embed: [num_texts, dimensions] of unit length; none leaves the flags out.
        seeds: training rows with a context; none where inputs are no context and question.
    """

    name = "contamination"

    def __init__(
        self,
        held_out: Mapping[str, str],
        *,
        embed: Embed | None = None,
        seeds: Sequence[Example] = (),
    ) -> None:
        self._names = list(held_out)
        self._held_out = list(held_out.values())
        self._index = ContaminationIndex(self._held_out, self._names)
        self._contexts = _index_contexts(held_out, seeds) if seeds else None
        self._embed = embed
        self._vectors: np.ndarray | None = None
        self._num_flagged = 0
        self._flagged: list[dict[str, object]] = []

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """See `Filter`."""
        verdicts = [Verdict(self._find(row.input or row.target)) for row in rows]
        if self._embed is not None:
            clean = [row for row, it in zip(rows, verdicts, strict=True) if not it.reason]
            self._flag([row.input or row.target for row in clean], self._embed)
        return verdicts

    def describe(self) -> dict[str, object]:
        """See `Filter`. Flagged rows stay; the first ten are shown with the row they are like."""
        return {
            "held_out_inputs": len(self._held_out),
            "flagged": self._num_flagged,
            "flagged_samples": self._flagged,
        }

    def _find(self, text: str) -> str:
        found = self._index.find(text)
        if found or self._contexts is None:
            return found or ""
        context = split_context(text)
        found = self._contexts.find(context) if context else None
        return f"context: {found}" if found else ""

    def _flag(self, texts: Sequence[str], embed: Embed) -> None:
        if not texts or not self._held_out:
            return
        if self._vectors is None:
            self._vectors = embed(self._held_out)
        similarities = embed(texts) @ self._vectors.T
        for place in np.flatnonzero(similarities.max(axis=1) >= FLAG_SIMILARITY):
            self._num_flagged += 1
            closest = int(similarities[place].argmax())
            if len(self._flagged) < NUM_SHOWN:
                self._flagged.append(
                    {
                        "input": texts[place],
                        "like": self._names[closest],
                        "similarity": round(float(similarities[place, closest]), 4),
                    }
                )


def split_context(text: str) -> str:
    """What stands before the last blank line: of a context and a question, the context."""
    return text.rpartition("\n\n")[0].strip()


def _index_contexts(held_out: Mapping[str, str], seeds: Sequence[Example]) -> ContaminationIndex:
    known = {normalize_text(split_context(seed.input)) for seed in seeds}
    contexts = {name: split_context(text) for name, text in held_out.items()}
    unknown = {
        name: context
        for name, context in contexts.items()
        if context and normalize_text(context) not in known
    }
    return ContaminationIndex(list(unknown.values()), [f"that of {name}" for name in unknown])
