"""Seed analysis: the task's patterns and conventions, read from the training rows alone.

First of the three stages of the pipeline (seed analysis, generation with controlled variation,
quality filtering). Its sentences go into the teacher's instructions.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loam_runtime.data.examples import Example

MIN_SHARE = 0.8  # a trait counts as a convention where this many rows have it
MIN_ROWS = 4  # fewer rows establish no convention


@dataclass(frozen=True, slots=True)
class LengthRange:
    """Words of a text over the rows: the 10th, 50th and 90th percentile."""

    low: int
    middle: int
    high: int


@dataclass(frozen=True, slots=True)
class SeedProfile:
    """What the seeds have in common.

    Attributes:
        num_rows: rows analysed.
        labels: rows per label, most frequent first; empty unless classification.
        input_words, target_words: length ranges.
        input_conventions, target_conventions: sentences about the format, for an instruction.
    """

    num_rows: int
    labels: dict[str, int]
    input_words: LengthRange
    target_words: LengthRange
    input_conventions: tuple[str, ...]
    target_conventions: tuple[str, ...]


def analyze_seeds(seeds: Sequence[Example], *, is_classification: bool) -> SeedProfile:
    """Read the patterns of at least one row."""
    inputs = [seed.input for seed in seeds if seed.input]
    targets = [seed.target for seed in seeds]
    counts = Counter(targets).most_common() if is_classification else []
    return SeedProfile(
        num_rows=len(seeds),
        labels=dict(counts),
        input_words=_measure(inputs or [""]),
        target_words=_measure(targets),
        input_conventions=_find_conventions(inputs),
        target_conventions=() if is_classification else _find_conventions(targets),
    )


def _measure(texts: Sequence[str]) -> LengthRange:
    lengths = sorted(len(text.split()) for text in texts)

    def quantile(share: float) -> int:
        return lengths[round(share * (len(lengths) - 1))]

    return LengthRange(quantile(0.1), quantile(0.5), quantile(0.9))


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


_TRAITS: dict[str, Callable[[str], bool]] = {
    "is a JSON value": _is_json,
    "is a single number": lambda text: bool(re.fullmatch(r"[-+$€£]?[\d.,]+ ?%?", text.strip())),
    "is a single word": lambda text: len(text.split()) == 1,
    "is one line": lambda text: "\n" not in text,
    "ends with a question mark": lambda text: text.rstrip().endswith("?"),
    "ends with a full stop": lambda text: text.rstrip().endswith("."),
    "ends without punctuation": lambda text: text.rstrip()[-1:].isalnum(),
    "is all lower case": lambda text: text == text.lower() and text != text.upper(),
    "is written in capitals": lambda text: text == text.upper() and text != text.lower(),
    "starts with a capital letter": lambda text: text[:1].isupper(),
    "is written as tokens, with a space before punctuation": lambda text: bool(
        re.search(r"\w [.,?!;](\s|$)", text)
    ),
    "consists of several lines": lambda text: "\n" in text.strip(),
    "is written as a bulleted list": lambda text: bool(re.match(r"\s*[-*•]\s", text)),
}
# A trait that follows from another says nothing.
_IMPLIED = {
    "is a JSON value": {"ends without punctuation", "is one line"},
    "is a single number": {"is a single word", "is one line", "ends without punctuation"},
    "is a single word": {"is one line", "ends without punctuation"},
    "is written in capitals": {"starts with a capital letter"},
}


def _find_conventions(texts: Sequence[str]) -> tuple[str, ...]:
    if len(texts) < MIN_ROWS:
        return ()
    found = [
        trait
        for trait, holds in _TRAITS.items()
        if sum(map(holds, texts)) >= MIN_SHARE * len(texts)
    ]
    implied = {name for trait in found for name in _IMPLIED.get(trait, ())}
    return tuple(trait for trait in found if trait not in implied)
