"""The ways in which what a run trained can be served: beside its base, and merged into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from loam_runtime.evaluation.latency import Serving

if TYPE_CHECKING:
    from peft import PeftModel

    from loam_runtime.models.language_model import LanguageModel


def list_servings(
    tuned: LanguageModel, merged: LanguageModel | None = None, *, can_merge: bool
) -> list[Serving]:
    """The base model, the adapter on it and both merged; or the whole model alone.

    Without a merged model of its own, that way is made of `tuned` in memory, block by block, and
    unmade again. This rounds its weights: `tuned` must have nothing left to do but to be timed.

    Args:
        tuned: what the run published.
        merged: the merged model that it published as well, if it did.
        can_merge: whether the adapter goes into the base's weights as they are; not into 4 bits.
    """
    from peft import PeftModel

    model = tuned.model
    if not isinstance(model, PeftModel):
        return [Serving("Fine-tuned model", tuned)]
    servings = [
        Serving("Base model", tuned, model.disable_adapter),
        Serving("Adapter on the base model", tuned),
    ]
    name = "Adapter merged into the base model"
    if merged is not None:
        servings.append(Serving(name, merged))
    elif can_merge:
        servings.append(Serving(name, tuned, lambda: _merge(model)))
    return servings


@contextmanager
def _merge(model: PeftModel) -> Iterator[None]:
    model.merge_adapter()
    try:
        yield
    finally:
        model.unmerge_adapter()
