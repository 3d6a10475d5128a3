"""A student that learns in milliseconds, for what needs many repeats.

Logistic regression on frozen sentence embeddings (all-MiniLM-L6-v2). It is not the model that is
fine-tuned, and its scores are not compared with that one's: it shows what the rows themselves are
worth, by teacher and by size.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.study.tasks import Task

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.embeddings import embed_texts


class Probe:
    """A classifier that has learnt these rows."""

    def __init__(self, rows: Sequence[Example]) -> None:
        from sklearn.linear_model import LogisticRegression

        vectors = embed_texts([row.input for row in rows])
        model = LogisticRegression(C=10.0, max_iter=2000)
        self._model = model.fit(vectors, [row.target for row in rows])

    def agrees(self, rows: Sequence[Example]) -> list[bool]:
        """Whether each row's label is the one that it would give."""
        named = self._model.predict(embed_texts([row.input for row in rows]))
        return [label == row.target for label, row in zip(named, rows, strict=True)]


def measure_probe(task: Task, rows: Sequence[Example]) -> dict[str, str]:
    """Learn the rows; which of all test rows are then right, as a string of 0 and 1."""
    return {"raw": "".join(str(int(hit)) for hit in Probe(rows).agrees(task.test))}
