"""What is said of a set of synthetic rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.measures import (
    measure_agreement,
    measure_balance,
    measure_dispersion,
    measure_distinct,
    measure_novelty,
    measure_rows,
    measure_self_bleu,
)


def test_repeated_rows_are_less_varied() -> None:
    """Copies lower distinct-n and raise self-BLEU: measured the other way round, a collapsed set
    would look rich."""
    varied = [text.split() for text in ("the parcel is late", "who sent this invoice", "no refund")]
    copies = [varied[0]] * 3
    assert measure_distinct(varied, 2) == 1.0
    assert measure_distinct(copies, 2) == pytest.approx(1 / 3, abs=1e-3)
    assert measure_self_bleu(copies) == 1.0
    assert measure_self_bleu(varied) < 0.1


def test_balance() -> None:
    """One for equal shares, and a label without a row counts against it."""
    assert measure_balance(Counter(a=5, b=5), 2) == 1.0
    assert measure_balance(Counter(a=5), 2) == 0.0
    assert measure_balance(Counter(a=5, b=5), 3) < 0.7
    assert measure_balance(Counter(), 0) is None


def test_dispersion_equals_all_pairs() -> None:
    """The short way (one sum of vectors) gives what comparing all pairs gives."""
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarities = (vectors @ vectors.T)[~np.eye(20, dtype=bool)]
    assert measure_dispersion(vectors) == pytest.approx(1 - similarities.mean(), abs=1e-3)


def test_novelty_is_to_the_nearest_seed() -> None:
    """A copy of any seed has none, however far the other seeds are."""
    seeds = np.eye(3, dtype=np.float32)
    assert measure_novelty(seeds[:1], seeds) == {"p10": 0.0, "p50": 0.0}
    assert measure_novelty(-seeds[:1], seeds[:1]) == {"p10": 2.0, "p50": 2.0}


@pytest.mark.parametrize(("num_rows", "num_seeds"), [(0, 3), (1, 1), (3, 2), (300, 5)])
def test_sides_are_of_one_size(num_rows: int, num_seeds: int) -> None:
    """Distinct-n falls as a set grows, so both sides are sampled alike; and the smallest sets give
    a report, not an error at the end of a paid run."""
    rows = [Example(f"{i}", f"text {i} of many", "ab"[i % 2]) for i in range(num_rows)]
    seeds = [Example(f"s{i}", f"seed {i}", "ab"[i % 2]) for i in range(num_seeds)]
    report = measure_rows(
        rows, seeds, is_classification=True, embed=lambda texts: np.ones((len(texts), 1))
    )
    assert report["sample"] == min(num_rows, num_seeds)
    assert sum(report["labels"].values()) == num_rows


def test_agreement_sees_wrong_labels() -> None:
    """Rows labelled otherwise than the seeds agree less; and the seeds' side is of seeds that the
    classifier has not seen: of labels drawn by lot it would otherwise say that all is well."""
    rng = np.random.default_rng(0)
    places = {f"{label}{i}": label for label in "ab" for i in range(40)}

    def embed(texts: list[str]) -> np.ndarray:
        centres = {"a": [1.0, 0.0, 0.0], "b": [0.0, 1.0, 0.0]}
        return np.array([centres[text[0]] for text in texts]) + rng.normal(0, 0.1, (len(texts), 3))

    seeds = [Example(text, text, label) for text, label in places.items()]
    wrong = [Example(f"w{i}", f"a{i}", "ab"[i % 4 == 0]) for i in range(40)]
    assert measure_agreement(seeds, seeds, embed) == {"synthetic": 1.0, "seeds": 1.0}
    assert measure_agreement(wrong, seeds, embed) == {"synthetic": 0.75, "seeds": 1.0}

    def embed_apart(texts: list[str]) -> np.ndarray:
        return np.eye(80)[[list(places).index(text) for text in texts]]

    by_lot = measure_agreement(seeds, seeds, embed_apart)
    assert by_lot["synthetic"] == 1.0
    assert by_lot["seeds"] < 0.8
    assert measure_agreement(seeds, seeds[:10], embed) is None
    assert measure_agreement(seeds, seeds[:40], embed) is None


@given(sizes=st.lists(st.integers(1, 6), min_size=4, max_size=12).filter(lambda n: sum(n) >= 20))
def test_agreement_of_few_seeds_a_label(sizes: list[int]) -> None:
    """Fewer seeds a label than folds, or a single one, give a figure: the rows are paid for by
    then, and must not be lost over a measure of them."""
    seeds = [
        Example(f"{label}-{i}", f"{label} {i}", str(label))
        for label, size in enumerate(sizes)
        for i in range(size)
    ]
    found = measure_agreement(seeds, seeds, lambda texts: np.ones((len(texts), 2)))
    assert found is not None
    assert all(0 <= share <= 1 for share in found.values())
