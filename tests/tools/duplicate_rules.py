"""How well every duplicate and contamination rule tells planted pairs from hard other ones.

`duplicate_pairs.jsonl` holds pairs written for this: copies (case, spacing, Unicode), edits (a
word or a letter), paraphrases, excerpts (13 words or more inside another long text), and different
texts that look alike, most of them short questions. Benchmark and tests read the same figures.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.embeddings import embed_texts
from loam_runtime.synthesis.filters.base import Filter
from loam_runtime.synthesis.filters.contamination import FLAG_SIMILARITY, ContaminationFilter
from loam_runtime.synthesis.filters.duplicates import ExactDuplicateFilter
from loam_runtime.synthesis.filters.embedding_duplicates import EmbeddingDuplicateFilter
from loam_runtime.synthesis.filters.near_duplicates import NearDuplicateFilter

PAIRS = Path(__file__).with_name("duplicate_pairs.jsonl")


@dataclass(frozen=True, slots=True)
class Figures:
    """What a rule finds in the pairs.

    Attributes:
        precision: pairs that are not different, of those found.
        recall: pairs found, of the kinds that the rule is made for.
        found: pairs found, by kind.
        wrong: different pairs that were found.
    """

    precision: float
    recall: float
    found: Counter[str]
    wrong: tuple[tuple[str, str], ...]


def make_row(text: str) -> Example:
    return Example(text, text, "label", source="a row")


def build_embedding_filter(first: str, similarity: float = 0.95) -> Filter:
    return EmbeddingDuplicateFilter(
        [make_row(first)], embed_texts, similarity=similarity, is_classification=True
    )


def _drops(build: Callable[[str], Filter]) -> Callable[[str, str], bool]:
    return lambda first, second: bool(build(first).judge([make_row(second)])[0].reason)


def _is_flagged(first: str, second: str) -> bool:
    vectors = embed_texts([first, second])
    return bool(np.dot(*vectors) >= FLAG_SIMILARITY)


# A rule, and the kinds of pairs that it is made for.
RULES: dict[str, tuple[Callable[[str, str], bool], frozenset[str]]] = {
    "exactDuplicates": (
        _drops(lambda text: ExactDuplicateFilter([make_row(text)], is_classification=True)),
        frozenset({"copy"}),
    ),
    "nearDuplicates": (
        _drops(lambda text: NearDuplicateFilter([make_row(text)], is_classification=True)),
        frozenset({"copy", "edit"}),
    ),
    "embeddingDuplicates": (
        _drops(build_embedding_filter),
        frozenset({"copy", "edit", "paraphrase"}),
    ),
    "contamination": (
        _drops(lambda text: ContaminationFilter({"test row 1": text})),
        frozenset({"copy", "edit", "excerpt"}),
    ),
    "contamination, flags": (_is_flagged, frozenset({"copy", "edit", "paraphrase"})),
}


def read_pairs() -> list[tuple[str, str, str]]:
    """Kind, first and second text of every pair."""
    lines = PAIRS.read_text(encoding="utf-8").splitlines()
    return [(pair["kind"], pair["first"], pair["second"]) for pair in map(json.loads, lines)]


def measure_rule(name: str) -> Figures:
    """Precision and recall of a rule over all pairs."""
    finds, kinds = RULES[name]
    pairs = read_pairs()
    found = [(kind, first, second) for kind, first, second in pairs if finds(first, second)]
    by_kind = Counter(kind for kind, *_ in found)
    wanted = Counter(kind for kind, *_ in pairs if kind in kinds)
    return Figures(
        precision=1 - by_kind["different"] / max(len(found), 1),
        recall=sum(by_kind[kind] for kind in kinds) / wanted.total(),
        found=by_kind,
        wrong=tuple((first, second) for kind, first, second in found if kind == "different"),
    )
