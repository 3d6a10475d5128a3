"""Rows in another language than the seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.filters.base import Verdict

MIN_PROBABILITY = 0.9  # a shorter text seldom reaches it, and then passes
MIN_LETTERS = 20
MIN_SHARE = 0.05  # of the seeds that a language needs to be one of theirs
MAX_SEED_ERRORS = 0.02


class LanguageFilter:
    """Drops a row that is plainly written in another language than the seeds, or than those named.

    The languages are identified by py3langid (Lui and Baldwin, 2012: byte n-grams, 97 languages).
    A row goes only where a language that is not wanted has a probability of 0.9 or more and the
    text 20 letters: "Who was Galileo?" would pass for Zulu. The seeds' languages are those of at
    least 5 % of the seeds that are identified so surely. Where the rule would drop more than 2 %
    of the seeds themselves (product codes, SQL), it drops nothing.

    Args:
        seeds: training rows.
        languages: ISO 639-1 codes that are wanted instead of the seeds'; none for the seeds'.
        is_classification: targets are labels, and not looked at.
    """

    name = "language"

    def __init__(
        self, seeds: Sequence[Example], *, languages: Sequence[str] = (), is_classification: bool
    ) -> None:
        self._is_classification = is_classification
        self._seeds = tuple(seeds)
        self._named = frozenset(languages)
        self._wanted: frozenset[str] | None = None

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """See `Filter`."""
        wanted = self._find_wanted()
        return [Verdict(self._find(row, wanted)) for row in rows]

    def describe(self) -> dict[str, object]:
        """See `Filter`; no languages where none could be told from the seeds."""
        return {"languages": sorted(self._wanted or ())}

    def _find_wanted(self) -> frozenset[str]:
        # At the first row, not before: the model takes a second or two to load.
        if self._wanted is None:
            self._wanted = self._named or self._read_seeds()
        return self._wanted

    def _read_seeds(self) -> frozenset[str]:
        found = Counter(filter(None, (identify_language(self._join(seed)) for seed in self._seeds)))
        own = {name for name, count in found.items() if count >= MIN_SHARE * found.total()}
        num_errors = sum(count for name, count in found.items() if name not in own)
        return frozenset(own if num_errors <= MAX_SEED_ERRORS * len(self._seeds) else ())

    def _find(self, row: Example, wanted: frozenset[str]) -> str:
        language = identify_language(self._join(row)) if wanted else ""
        return f'written in language "{language}"' if language and language not in wanted else ""

    def _join(self, row: Example) -> str:
        return row.input if self._is_classification else f"{row.input}\n{row.target}"


def identify_language(text: str) -> str:
    """ISO 639-1 code of a text's language; "" where it is too short or not sure enough."""
    if sum(map(str.isalpha, text)) < MIN_LETTERS:
        return ""
    # A text in capitals looks like no language at all.
    language, probability = _load_identifier().classify(text.lower() if text.isupper() else text)
    return str(language) if probability >= MIN_PROBABILITY else ""


@cache
def _load_identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
