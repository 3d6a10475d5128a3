"""Who judges the labels of synthetic rows: the model that wrote them, or the one a job names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loam_runtime.synthesis.filters.asked_consistency import AskedConsistencyFilter
from loam_runtime.synthesis.filters.base import AskedFilter, Filter
from loam_runtime.synthesis.filters.fallback_consistency import FallbackConsistencyFilter

if TYPE_CHECKING:
    from loam_api.filters_block import Filters
    from loam_runtime.data.prompt import PromptContract
    from loam_runtime.synthesis.filters.consistency import ConsistencyFilter
    from loam_runtime.synthesis.scoring import LanguageModel
    from loam_runtime.synthesis.strategies.base import TaskBrief
    from loam_runtime.synthesis.teachers import Teacher

# As in a manifest: what to do where the filter is not trusted.
OnUntrustedFilter = Literal["keep", "fail", "judge"]


@dataclass(frozen=True, slots=True)
class LabelJudges:
    """The label-consistency filter of a task: one at most, of the kind that its judge needs."""

    scored: tuple[Filter, ...] = ()
    asked: tuple[AskedFilter, ...] = ()


def build_label_judges(
    brief: TaskBrief,
    settings: Filters,
    *,
    teacher: Teacher,
    judge: Teacher | None,
    contract: PromptContract | None,
    max_tokens: int,
    on_untrusted: OnUntrustedFilter,
) -> LabelJudges:
    """The filter, measured already where that needs no question.

    Args:
        teacher: who writes the rows; one whose model runs here scores labels, any other is asked.
        judge: judges in the teacher's place: always, or with `on_untrusted` "judge" only where the
            teacher is not trusted.
        contract: needed with a teacher whose model runs here.
        max_tokens: of an answer about a row.

    Raises:
        InputError: the filter is not trusted and `on_untrusted` is "fail".
    """
    if not (brief.is_classification and settings.consistency.enabled):
        return LabelJudges()
    is_fallback = on_untrusted == "judge"
    options = {"max_tokens": max_tokens, "on_untrusted": "keep" if is_fallback else on_untrusted}
    named = judge and AskedConsistencyFilter(
        brief, is_chat=judge.is_chat, respondent="judge", judge_name=judge.model, **options
    )
    if named and not is_fallback:
        return LabelJudges(asked=(named,))
    if teacher.language_model is None:
        own = AskedConsistencyFilter(brief, is_chat=teacher.is_chat, **options)
        return LabelJudges(asked=(FallbackConsistencyFilter(own, named) if named else own,))
    assert contract is not None, "a model that scores labels reads them as the contract has them"
    scoring = build_scored_consistency(
        brief, teacher.language_model, contract, on_untrusted=options["on_untrusted"]
    )
    if named and not scoring.is_trusted:
        return LabelJudges(asked=(FallbackConsistencyFilter(scoring, named),))
    return LabelJudges(scored=(scoring,))


def build_scored_consistency(
    brief: TaskBrief,
    model: LanguageModel,
    contract: PromptContract,
    *,
    on_untrusted: Literal["keep", "fail"] = "keep",
) -> ConsistencyFilter:
    """The filter of a model that runs here, measured on the seeds before anything is paid for.

    Raises:
        InputError: it is not trusted and `on_untrusted` is "fail".
    """
    from loam_runtime.synthesis.filters.consistency import ConsistencyFilter

    scoring = ConsistencyFilter(
        model, contract, brief.seeds, random_seed=brief.random_seed, on_untrusted=on_untrusted
    )
    scoring.measure()
    return scoring
