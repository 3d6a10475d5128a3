"""Sentence embeddings, by the real model."""

from __future__ import annotations

import numpy as np
import pytest

from loam_runtime.errors import InputError
from loam_runtime.synthesis import embeddings
from loam_runtime.synthesis.embeddings import DIMENSIONS, embed_texts

TEXTS = [
    "How do I reset my password?",
    "I forgot my password, how can I set a new one?",
    "The train leaves at noon from platform four, and it is usually late by some minutes.",
]


def test_meaning_not_wording() -> None:
    """A paraphrase is closer than another topic, and all lengths are one: else a dot product is
    no cosine, and every threshold on it means something else."""
    vectors = embed_texts(TEXTS)
    assert vectors.shape == (3, DIMENSIONS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.7 > vectors[0] @ vectors[2]


def test_batch_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text's vector is the same alone and padded beside longer ones, and comes back in the
    order asked for: a padded token in the mean would make likeness depend on the company."""
    monkeypatch.setattr(embeddings, "_vectors", type(embeddings._vectors)())
    together = embed_texts([TEXTS[2], TEXTS[0], TEXTS[2]])
    embeddings._vectors.clear()
    np.testing.assert_allclose(embed_texts([TEXTS[0]])[0], together[1], atol=1e-5)
    np.testing.assert_array_equal(together[0], together[2])


def test_no_text_and_empty_text() -> None:
    """Nothing gives an empty matrix, and an empty text a vector, not NaN."""
    assert embed_texts([]).shape == (0, DIMENSIONS)
    assert np.isfinite(embed_texts([""])).all()


def test_embedded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filters, selection and measures ask for the same texts; the model sees each one once, and
    the cache stays within its bound."""
    monkeypatch.setattr(embeddings, "_vectors", type(embeddings._vectors)())
    monkeypatch.setattr(embeddings, "MAX_CACHED", 2)
    seen: list[list[str]] = []
    compute = embeddings._compute_vectors
    monkeypatch.setattr(
        embeddings, "_compute_vectors", lambda texts: (seen.append(list(texts)), compute(texts))[1]
    )
    embed_texts(TEXTS[:2])
    embed_texts([*TEXTS[:1], *TEXTS[:1]])
    embed_texts(TEXTS[2:])
    assert seen == [TEXTS[:2], [], TEXTS[2:]]
    assert list(embeddings._vectors) == [TEXTS[0], TEXTS[2]]


def test_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what to install, not a module of the loader."""
    monkeypatch.setattr(embeddings, "PACKAGE", "no_such_package")
    with pytest.raises(InputError, match="all-MiniLM-L6-v2 is not installed"):
        embeddings._find_model()
