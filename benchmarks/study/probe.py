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


def measure_probe(task: Task, rows: Sequence[Example]) -> dict[str, str]:
    """Learn the rows; which of all test rows are then right, as a string of 0 and 1."""
    from sklearn.linear_model import LogisticRegression

    vectors = embed_texts([row.input for row in rows])
    model = LogisticRegression(C=10.0, max_iter=2000).fit(vectors, [row.target for row in rows])
    named = model.predict(embed_texts([row.input for row in task.test]))
    hits = (str(int(label == row.target)) for label, row in zip(named, task.test, strict=True))
    return {"raw": "".join(hits)}
