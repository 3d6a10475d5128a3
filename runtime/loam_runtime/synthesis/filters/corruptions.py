"""Bad examples made from good ones: what the quality classifier learns to tell apart."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from loam_runtime.data.examples import Example

NUM_FOLDS = 5
Pair = tuple[str, str]
Fault = tuple[str, Pair]  # its name, and the pair that has it
Corruption = Callable[[random.Random, Example, Example], Pair | None]


def corrupt_seed(
    seed: Example,
    seeds: Sequence[Example],
    rng: random.Random,
    *,
    is_classification: bool,
    fold: int = 0,
) -> list[Fault]:
    """(input, target) pairs that each have one named fault; none of them equals the seed.

    Args:
        seeds: where another row's target or half a text comes from.
        fold: of cross-validation; each has strange texts of its own, so that the classifier is
            measured on some that it has not learnt by heart.
    """
    others = [other for other in seeds if other.target != seed.target]
    other = rng.choice(others) if others else seed
    kinds = _OF_LABELS if is_classification else _OF_TEXTS
    made = [(name, kind(rng, seed, other)) for name, kind in kinds.items()]
    strange = rng.choice(_OFF_TOPIC[fold % NUM_FOLDS :: NUM_FOLDS])
    off_topic = (strange, seed.target) if is_classification else (seed.input, strange)
    made.append(("off topic", off_topic))
    return [(name, pair) for name, pair in made if pair and pair != (seed.input, seed.target)]


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


# Of as many worlds as lines, so that a domain of seeds is near to one of them at most.
_OFF_TOPIC = (
    "Fold the beaten egg whites into the batter and bake it for forty minutes.",
    "The glacier has lost a third of its length since the survey of 1931.",
    "In the second half the visitors scored twice from corner kicks.",
    "She tuned the cello a little lower than the pianist had asked for.",
    "Moss grows on the north side of these walls where the sun never comes.",
    "The treaty was signed in the summer residence of the old king.",
    "A prime number has no divisors other than one and itself.",
    "Turn left at the lighthouse and follow the path down to the ferry.",
    "The vaccine is stored between two and eight degrees.",
    "Our neighbours painted their fence green over the weekend.",
    "The probe will pass behind the moon and be silent for forty minutes.",
    "Please stand clear of the doors; the train is about to depart.",
)

_OF_LABELS: dict[str, Corruption] = {
    "wrong label": _swap_target,
    "shuffled": _shuffle_input,
    "cut off": _cut_input,
    "repetitive": _repeat_input,
    "two texts in one": _splice_inputs,
}
_OF_TEXTS: dict[str, Corruption] = {
    "answer of another row": _swap_target,
    "shuffled": _shuffle_target,
    "cut off": _cut_target,
    "echoes the input": _echo_input,
}


def _shuffle(rng: random.Random, text: str) -> str:
    words = text.split()
    return " ".join(rng.sample(words, len(words)))


def _cut(rng: random.Random, text: str) -> str:
    """The first third of a text, "" where that would leave nothing to judge."""
    words = text.split()
    return " ".join(words[: len(words) // 3]) if len(words) >= 6 else ""
