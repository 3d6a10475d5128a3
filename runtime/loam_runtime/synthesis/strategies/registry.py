"""The strategies by name: a new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable

from loam_runtime.errors import InputError
from loam_runtime.synthesis.strategies.base import SamplingSettings, Strategy, TaskBrief
from loam_runtime.synthesis.strategies.in_context import InContextStrategy
from loam_runtime.synthesis.strategies.rationale import build_rationale_strategy
from loam_runtime.synthesis.strategies.seeded import SeededStrategy


def _build_seeded(brief: TaskBrief, sampling: SamplingSettings, is_chat: bool) -> Strategy:
    return SeededStrategy(brief, sampling)


def _build_in_context(brief: TaskBrief, sampling: SamplingSettings, is_chat: bool) -> Strategy:
    return InContextStrategy(brief, sampling, is_chat=is_chat)


def _build_rationale(brief: TaskBrief, sampling: SamplingSettings, is_chat: bool) -> Strategy:
    return build_rationale_strategy(brief, sampling)


STRATEGIES: dict[str, Callable[[TaskBrief, SamplingSettings, bool], Strategy]] = {
    "seeded": _build_seeded,
    "inContext": _build_in_context,
    "rationale": _build_rationale,
}


def build_strategy(
    name: str, brief: TaskBrief, sampling: SamplingSettings, *, is_chat: bool
) -> Strategy:
    """The strategy of this name for this task.

    Raises:
        InputError: no strategy has the name, or it does not fit the task.
    """
    if name not in STRATEGIES:
        raise InputError(
            f"synthesis.strategy {name!r} is not known.", remedy=f"Use one of {sorted(STRATEGIES)}."
        )
    return STRATEGIES[name](brief, sampling, is_chat)
