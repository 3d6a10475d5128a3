"""The filters in the order in which rows meet them, cheapest first.

A new filter is a file and a line here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from loam_runtime.synthesis.filters.base import Filter
from loam_runtime.synthesis.filters.contamination import ContaminationFilter
from loam_runtime.synthesis.filters.duplicates import DuplicateFilter
from loam_runtime.synthesis.strategies.base import TaskBrief

if TYPE_CHECKING:
    from loam_runtime.data.prompt import PromptContract
    from loam_runtime.synthesis.scoring import LanguageModel

OnUntrusted = Literal["keep", "fail"]


def build_validity_filters(brief: TaskBrief) -> list[Filter]:
    """What makes a generated row a valid one, beside being well-formed."""
    return [DuplicateFilter(brief.seeds, is_classification=brief.is_classification)]


def build_judges(
    brief: TaskBrief,
    *,
    test_inputs: Sequence[str],
    quality_threshold: float,
    model: LanguageModel | None,
    contract: PromptContract | None,
    on_untrusted: OnUntrusted,
) -> list[Filter]:
    """What decides which valid rows are good enough.

    Args:
        model: scores labels; without one (a remote teacher gives no log-probabilities) label
            consistency is not judged.
        contract: needed with `model`, for classification.

    Raises:
        InputError: the label-consistency filter is not trusted and `on_untrusted` is "fail".
    """
    from loam_runtime.synthesis.filters.quality import QualityFilter

    judges: list[Filter] = [ContaminationFilter(test_inputs)] if test_inputs else []
    if brief.is_classification and model is not None and contract is not None:
        from loam_runtime.synthesis.filters.consistency import ConsistencyFilter

        consistency = ConsistencyFilter(
            model,
            contract,
            brief.seeds,
            random_seed=brief.random_seed,
            on_untrusted=on_untrusted,
        )
        consistency.measure()  # before anything is paid for
        judges.append(consistency)
    quality = QualityFilter(
        brief.seeds,
        quality_threshold,
        is_classification=brief.is_classification,
        random_seed=brief.random_seed,
    )
    return [*judges, quality]
