"""Bad examples made from good ones: what the quality classifier learns to tell apart."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from loam_runtime.data.examples import Example

Pair = tuple[str, str]
Corruption = Callable[[random.Random, Example, Example], Pair | None]


def corrupt_seed(
    seed: Example, seeds: Sequence[Example], rng: random.Random, *, is_classification: bool
) -> list[Pair]:
    """(input, target) pairs that each have one fault; None of them equals the seed.

    Args:
        seeds: where another row's target or half a text comes from.
    """
    others = [other for other in seeds if other.target != seed.target]
    other = rng.choice(others) if others else seed
    kinds = _OF_LABELS if is_classification else _OF_TEXTS
    made = [kind(rng, seed, other) for kind in kinds]
    return [pair for pair in made if pair and pair != (seed.input, seed.target)]


def _swap_target(rng: random.Random, seed: Example, other: Example) -> Pair:
    """A fluent text with the wrong answer."""
    return seed.input, other.target


def _shuffle_input(rng: random.Random, seed: Example, other: Example) -> Pair:
    return _shuffle(rng, seed.input), seed.target


def _cut_input(rng: random.Random, seed: Example, other: Example) -> Pair | None:
    cut = _cut(rng, seed.input)
    return (cut, seed.target) if cut else None


def _repeat_input(rng: random.Random, seed: Example, other: Example) -> Pair:
    words = seed.input.split()
    start = rng.randrange(max(1, len(words) - 2))
    loop = words[start : start + 3]
    return " ".join([*words[: start + 3], *loop, *loop, *loop]), seed.target


def _splice_inputs(rng: random.Random, seed: Example, other: Example) -> Pair:
    """The first half of one row with the second half of another class's."""
    first, second = seed.input.split(), other.input.split()
    return " ".join(first[: len(first) // 2] + second[len(second) // 2 :]), seed.target


def _shuffle_target(rng: random.Random, seed: Example, other: Example) -> Pair:
    return seed.input, _shuffle(rng, seed.target)


def _cut_target(rng: random.Random, seed: Example, other: Example) -> Pair | None:
    cut = _cut(rng, seed.target)
    return (seed.input, cut) if cut else None


def _echo_input(rng: random.Random, seed: Example, other: Example) -> Pair | None:
    """The answer repeats the question."""
    return (seed.input, seed.input) if seed.input else None


_OF_LABELS: tuple[Corruption, ...] = (
    _swap_target,
    _shuffle_input,
    _cut_input,
    _repeat_input,
    _splice_inputs,
)
_OF_TEXTS: tuple[Corruption, ...] = (_swap_target, _shuffle_target, _cut_target, _echo_input)


def _shuffle(rng: random.Random, text: str) -> str:
    words = text.split()
    return " ".join(rng.sample(words, len(words)))


def _cut(rng: random.Random, text: str) -> str:
    """The first third of a text, "" where that would leave nothing to judge."""
    words = text.split()
    return " ".join(words[: len(words) // 3]) if len(words) >= 6 else ""
