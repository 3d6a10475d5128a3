"""What seeded rows differ in, from the analysis of the seeds."""

from __future__ import annotations

from loam_runtime.synthesis.analysis.seeds import SeedProfile
from loam_runtime.synthesis.analysis.texts import LengthRange
from loam_runtime.synthesis.languages import name_language
from loam_runtime.synthesis.strategies.base import TaskBrief
from loam_runtime.synthesis.variation import Attribute

STYLES = ("matter-of-fact", "formal", "casual", "terse", "detailed")
PERSONAS = (
    "somebody in a hurry",
    "an expert of the field",
    "a beginner",
    "somebody young",
    "somebody old",
    "somebody who writes seldom",
    "somebody careful",
)
EASY = "an easy case"
ORDINARY = "an ordinary case"
HARD = "a hard case, that a careless reader would get wrong"
NUM_NEAR_TOPICS = 6
NEW_TOPICS = (
    "a subject that none of the real examples has",
    "an unusual subject, yet one that belongs to the task",
    "a subject of your choice",
)


def build_attributes(brief: TaskBrief, profile: SeedProfile, *, has_input: bool) -> list[Attribute]:
    """Length, style, difficulty, topic, persona and language.

    Topics are half those of the seeds and half new ones: with the seeds' own alone the rows
    would repeat them, without any they would leave the domain.
    """
    words = profile.input_words if has_input else profile.target_words
    near = [f'a subject near "{term}"' for term in profile.vocabulary.terms[:NUM_NEAR_TOPICS]]
    return [
        Attribute("length", _name_lengths(words)),
        Attribute("style", tuple(f"{style} in style" for style in STYLES)),
        Attribute("difficulty", (EASY, ORDINARY, HARD)),
        Attribute("topic", (*near, *NEW_TOPICS)),
        Attribute("persona", tuple(f"written by {persona}" for persona in PERSONAS)),
        *_list_languages(brief),
    ]


def _list_languages(brief: TaskBrief) -> list[Attribute]:
    """Cross-lingual transfer: the languages asked for, by share."""
    if not brief.languages:
        return []
    names = tuple(f"in {name_language(code)}" for code in brief.languages)
    return [Attribute("language", names, tuple(brief.languages.values()))]


def _name_lengths(words: LengthRange) -> tuple[str, ...]:
    """Three lengths, or fewer where the seeds hardly differ in it."""
    low, middle, high = max(1, words.low), max(1, words.middle), max(1, words.high)
    named = {low: "short", high: "long", middle: "of usual length"}
    return tuple(f"{named[count]}, about {count} words" for count in sorted(named))
