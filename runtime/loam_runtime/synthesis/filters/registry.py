"""The filters in the order in which rows meet them, cheapest first.

A new filter is a file and a line here; one with settings is a block of `loam_api.filters_block`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from loam_api.filters_block import Filters
from loam_runtime.errors import InputError
from loam_runtime.synthesis.embeddings import embed_texts
from loam_runtime.synthesis.filters.asked_consistency import AskedConsistencyFilter
from loam_runtime.synthesis.filters.base import AskedFilter, Filter
from loam_runtime.synthesis.filters.contamination import ContaminationFilter
from loam_runtime.synthesis.filters.duplicates import ExactDuplicateFilter
from loam_runtime.synthesis.filters.embedding_duplicates import EmbeddingDuplicateFilter
from loam_runtime.synthesis.filters.grounding import GroundingFilter
from loam_runtime.synthesis.filters.language import LanguageFilter
from loam_runtime.synthesis.filters.length import LengthFilter
from loam_runtime.synthesis.filters.personal_data import PersonalDataFilter
from loam_runtime.synthesis.filters.preference import PreferenceFilter
from loam_runtime.synthesis.filters.structured import StructuredFilter
from loam_runtime.synthesis.filters.trust import OnUntrusted
from loam_runtime.synthesis.strategies.base import TaskBrief

if TYPE_CHECKING:
    from loam_runtime.data.prompt import PromptContract
    from loam_runtime.synthesis.scoring import LanguageModel
    from loam_runtime.synthesis.teachers import Teacher


def read_settings(settings: Mapping[str, Mapping[str, object]]) -> Filters:
    """The settings of filters by name, as in a manifest; those not named keep their defaults.

    Raises:
        InputError: an unknown name or setting, or a value that is not accepted.
    """
    try:
        return Filters.model_validate({name: dict(block) for name, block in settings.items()})
    except ValidationError as exc:
        wrong = exc.errors(include_url=False)[0]
        accepted = ", ".join(str(field.alias) for field in Filters.model_fields.values())
        raise InputError(
            f"filters.{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}.",
            remedy=f"Filters with settings are {accepted}; see docs/filters.md.",
        ) from exc


def build_validity_filters(brief: TaskBrief, settings: Filters) -> list[Filter]:
    """What makes a generated row a valid one, beside being well-formed."""
    built: list[Filter] = [
        ExactDuplicateFilter(brief.seeds, is_classification=brief.is_classification)
    ]
    if settings.structured.enabled and not brief.is_classification:
        built.append(StructuredFilter(brief.seeds, brief.database))
    return built + _build_enabled(_VALIDITY, brief, settings)


def build_judges(
    brief: TaskBrief,
    settings: Filters,
    *,
    held_out: Mapping[str, str],
    quality_threshold: float,
    model: LanguageModel | None,
    contract: PromptContract | None,
    on_untrusted: OnUntrusted,
) -> list[Filter]:
    """What decides which valid rows are good enough.

    Args:
        held_out: inputs of test and validation rows that no row may repeat, by the row's name.
        model: scores labels; a teacher without one is asked for them (`build_asked_judges`).
        contract: needed with `model`, for classification.

    Raises:
        InputError: the label-consistency filter is not trusted and `on_untrusted` is "fail".
    """
    from loam_runtime.synthesis.filters.quality import QualityFilter

    judges: list[Filter] = []
    if held_out:
        with_context = brief.seeds if brief.task == "extraction" else ()
        judges.append(ContaminationFilter(held_out, embed=embed_texts, seeds=with_context))
    judges += _build_enabled(_JUDGES, brief, settings)
    if settings.grounding.enabled and brief.task in ("extraction", "summarization"):
        is_summary = brief.task == "summarization"
        judges.append(GroundingFilter(brief.seeds, embed_texts, is_summary=is_summary))
    is_scored = settings.consistency.enabled and model is not None and contract is not None
    if brief.is_classification and is_scored:
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


def build_pair_judges(brief: TaskBrief, max_tokens: int) -> list[AskedFilter]:
    """What makes a generated preference pair one.

    Args:
        max_tokens: of an answer about a pair.
    """
    return [PreferenceFilter(brief, max_tokens)] if brief.has_pairs else []


def build_asked_judges(
    brief: TaskBrief,
    settings: Filters,
    *,
    teacher: Teacher,
    max_tokens: int,
    on_untrusted: OnUntrusted,
) -> list[AskedFilter]:
    """What is asked about rows that every other filter let pass.

    Args:
        teacher: who is asked; one whose model runs here has scored labels before.
        max_tokens: of an answer about a row.
    """
    if not (brief.is_classification and settings.consistency.enabled) or teacher.language_model:
        return []
    return [
        AskedConsistencyFilter(
            brief, is_chat=teacher.is_chat, max_tokens=max_tokens, on_untrusted=on_untrusted
        )
    ]


def _build_enabled(
    builders: Mapping[str, Callable[[TaskBrief, Any], Filter]], brief: TaskBrief, settings: Filters
) -> list[Filter]:
    chosen = {name: getattr(settings, name) for name in builders}
    return [build(brief, chosen[name]) for name, build in builders.items() if chosen[name].enabled]


def _build_near_duplicates(brief: TaskBrief, it: Any) -> Filter:
    from loam_runtime.synthesis.filters.near_duplicates import NearDuplicateFilter

    return NearDuplicateFilter(
        brief.seeds, similarity=it.similarity, is_classification=brief.is_classification
    )


# By field of `synthesis.filters`: from a task and the field's settings to the filter.
_VALIDITY: dict[str, Callable[[TaskBrief, Any], Filter]] = {
    "length": lambda brief, it: LengthFilter(
        brief.seeds, is_classification=brief.is_classification
    ),
    "personal_data": lambda brief, it: PersonalDataFilter(),
    "near_duplicates": _build_near_duplicates,
}
_JUDGES: dict[str, Callable[[TaskBrief, Any], Filter]] = {
    "language": lambda brief, it: LanguageFilter(
        brief.seeds,
        languages=it.languages or tuple(brief.languages),
        is_classification=brief.is_classification,
    ),
    "embedding_duplicates": lambda brief, it: EmbeddingDuplicateFilter(
        brief.seeds,
        embed_texts,
        similarity=it.similarity,
        is_classification=brief.is_classification,
    ),
}
