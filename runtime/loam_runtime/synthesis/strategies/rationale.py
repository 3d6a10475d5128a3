"""Rationale synthesis: the teacher explains each answer, step by step, before it gives it.

After Distilling Step-by-Step (Hsieh et al., 2023) as used in "An efficient strategy for
fine-tuning large language models": rationale and answer come in tags, and the student learns both
(`training.rationale`). Rows vary as in seeded synthesis. In classification the teacher must
arrive at the label it was asked for: a row whose reasoning ends elsewhere is dropped.
"""

from __future__ import annotations

from loam_runtime.errors import InputError
from loam_runtime.synthesis.strategies.base import SamplingSettings, TaskBrief
from loam_runtime.synthesis.strategies.forms import TagForm
from loam_runtime.synthesis.strategies.seeded import SeededStrategy
from loam_runtime.synthesis.strategies.shapes import choose_shape


def build_rationale_strategy(brief: TaskBrief, sampling: SamplingSettings) -> SeededStrategy:
    """Asks for inputs with rationale and answer.

    Raises:
        InputError: rows without an input, or preference pairs: there is no one answer to explain.
    """
    if brief.has_pairs or not any(seed.input for seed in brief.seeds):
        kind = "preference pairs" if brief.has_pairs else "plain text"
        raise InputError(
            f"synthesis.strategy rationale explains the answer to an input, and the seeds are "
            f"{kind}.",
            remedy="Use the strategy seeded.",
        )
    shape = choose_shape(brief, has_rationale=True)
    return SeededStrategy(brief, sampling, shape=shape, form=TagForm())
