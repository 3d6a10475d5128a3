"""Grounding: an answer must be in its context, a summary must say what its document says.

An extracted answer is looked for as a span; what is not one must at least bring no number and no
name of its own. A summary is judged sentence by sentence: its numbers and names must be in the
document, and its words, or its meaning by embedding, must be supported there. Names are told by
their capital letters; not so in German, where every noun has one: there only words in capitals are
taken for names, and words must be supported like all others. The rule is tried on
the seeds first: where theirs are derived (a sum, a rewording) it would drop what is right, so it
is not trusted and drops nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.filters.base import Verdict
from loam_runtime.synthesis.filters.language import identify_language
from loam_runtime.synthesis.languages import CAPITALISE_NOUNS

MIN_SEEDS_GROUNDED = 0.9  # share of the seeds that must pass for the rule to be trusted
MIN_ANSWER_SUPPORT = 0.75  # share of an answer's content words that the context has
MIN_SENTENCE_SUPPORT = 0.35  # share of a summary sentence's content words that the document has
MIN_COSINE = 0.45  # of a summary sentence with the nearest sentence of the document
MAX_MEASURED_SEEDS = 200
STEM = 5  # letters that are compared: "treated" is supported by "treatment"

_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_SMALL = (
    "a an the and or but if of in on at to for from by with as is are was were be been being has "
    "have had do does did not no nor that this these those it its he she they them his her their "
    "i you we who which what when where how than then there so such can could will would may "
    "might must shall should also very more most about into over under after before between"
)
_FUNCTION_WORDS = frozenset(_SMALL.split())
_COUNTED = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
)
_NUMBER_WORDS = {word: str(value) for value, word in enumerate(_COUNTED.split())}
_NUMBER_WORDS |= {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "hundred": "100"}
_NUMBER_WORDS |= {"once": "1", "twice": "2"}


class GroundingFilter:
    """Drops answers and summaries that say what their source does not.

    Args:
        seeds: training rows; the rule is tried on them.
        embed: texts to unit vectors; asked only about sentences that words do not settle.
        is_summary: targets are summaries; else they are answers from a context.
    """

    name = "grounding"

    def __init__(
        self,
        seeds: Sequence[Example],
        embed: Callable[[Sequence[str]], np.ndarray],
        *,
        is_summary: bool,
    ) -> None:
        self._embed = embed
        self._is_summary = is_summary
        measured = list(seeds)[:MAX_MEASURED_SEEDS]
        passed = sum(not self._find(seed) for seed in measured)
        self._num_seeds, self._num_grounded = len(measured), passed

    @property
    def is_trusted(self) -> bool:
        """Enough of the seeds pass."""
        return self._num_grounded >= MIN_SEEDS_GROUNDED * self._num_seeds > 0

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """See `Filter`. The reason names what is not in the source."""
        if not self.is_trusted:
            return [Verdict() for _ in rows]
        return [Verdict(self._find(row)) for row in rows]

    def describe(self) -> dict[str, object]:
        """See `Filter`."""
        told: dict[str, object] = {
            "trusted": self.is_trusted,
            "seeds_grounded": self._num_grounded,
            "seeds_measured": self._num_seeds,
        }
        if not self.is_trusted:
            told["note"] = (
                f"Grounding was not judged: {self._num_grounded} of {self._num_seeds} seeds are "
                f"themselves found in their source, and {MIN_SEEDS_GROUNDED:.0%} are needed."
            )
        return told

    def _find(self, row: Example) -> str:
        if self._is_summary:
            return find_unsupported(row.target, row.input, self._embed)
        return find_ungrounded(row.target, row.input)


def find_ungrounded(answer: str, source: str) -> str:
    """Why an answer is not taken from its source; "" where it is."""
    if f" {_normalize(answer)} " in f" {_normalize(source)} ":
        return ""
    foreign = _find_foreign(answer, source)
    if foreign:
        return foreign
    support = _measure_support(answer, _list_stems(source))
    return "" if support >= MIN_ANSWER_SUPPORT else "the answer is not found in the context"


def find_unsupported(
    summary: str, document: str, embed: Callable[[Sequence[str]], np.ndarray]
) -> str:
    """Why a summary says more than its document; "" where it does not."""
    foreign = _find_foreign(summary, document)
    if foreign:
        return foreign
    stems = _list_stems(document)
    doubtful = [
        sentence
        for sentence in _split_sentences(summary)
        if _measure_support(sentence, stems) < MIN_SENTENCE_SUPPORT
    ]
    if not doubtful:
        return ""
    known = list(_split_sentences(document))
    nearest = (embed(doubtful) @ embed(known).T).max(1) if known else np.zeros(len(doubtful))
    for sentence, cosine in zip(doubtful, nearest, strict=True):
        if cosine < MIN_COSINE:
            return f"nothing in the document supports: {sentence[:80]}"
    return ""


def _find_foreign(text: str, source: str) -> str:
    """A number or a name of the text that its source has not."""
    known = set(_list_numbers(source))
    for number in _list_numbers(text, has_words=False):
        if number not in known:
            return f"the number {number} is not in the source"
    words = {word.casefold() for word in _WORD.findall(source)}
    stems = _list_stems(source)
    for name in _list_names(text):
        folded = name.casefold().removesuffix("'s").removesuffix("\u2019s")
        if folded in words or folded[:STEM] in stems:
            continue
        if name.isupper() or not _capitalises_nouns(text, source):
            return f"the name {name} is not in the source"
    return ""


def _capitalises_nouns(text: str, source: str) -> bool:
    """Whether any noun of the text has a capital letter; its language is often too short to tell,
    and then it is that of its source."""
    return (identify_language(text) or identify_language(source)) in CAPITALISE_NOUNS


def _list_numbers(text: str, *, has_words: bool = True) -> Iterator[str]:
    """Numbers without thousands' commas; fractions and times also by their parts."""
    for match in _NUMBER.findall(text):
        for part in re.split(r"[:/]", match):
            plain = re.sub(r",(?=\d{3}(?:\D|$))", "", part)
            yield _simplify(plain)
    if has_words:
        for word in _WORD.findall(text.casefold()):
            if word in _NUMBER_WORDS:
                yield _NUMBER_WORDS[word]


def _simplify(number: str) -> str:
    """The same for 07 and 7, for 2.50 and 2.5."""
    number = number.lstrip("0") or "0"
    if number.count(".") == 1:
        number = number.rstrip("0").rstrip(".")
    return f"0{number}" if number.startswith(".") else number or "0"


def _list_names(text: str) -> Iterator[str]:
    """Capitalised words that do not begin a sentence; and words in capitals anywhere."""
    for sentence in _split_sentences(text):
        words = _WORD.findall(sentence)
        for place, word in enumerate(words):
            is_capital = word[0].isupper() and word.casefold() not in _FUNCTION_WORDS
            if is_capital and len(word) > 1 and (place > 0 or word.isupper()):
                yield word


def _split_sentences(text: str) -> Iterator[str]:
    return (part.strip() for part in _SENTENCE.split(text) if _WORD.search(part))


def _measure_support(text: str, stems: frozenset[str]) -> float:
    """Share of the text's content words whose beginning is in the source; 1 without any."""
    own = _list_stems(text)
    return len(own & stems) / len(own) if own else 1.0


def _list_stems(text: str) -> frozenset[str]:
    words = (word.casefold() for word in _WORD.findall(text))
    return frozenset(word[:STEM] for word in words if word not in _FUNCTION_WORDS)


def _normalize(text: str) -> str:
    """Words and numbers alone, in small letters."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = re.sub(r"(?<=\d),(?=\d{3}(?:\D|$))", "", folded)
    return " ".join(re.findall(r"\w+(?:\.\d+)?", folded))
