"""The filters in the order in which rows meet them, cheapest first.

A new filter is a file and a line here; one with settings is a block of `loam_api.filters_block`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from loam_api.filters_block import Filters
from loam_api.planning.teacher import limit_wrong_answers
from loam_runtime.errors import InputError
from loam_runtime.synthesis.embeddings import embed_texts
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
from loam_runtime.synthesis.filters.trust import GENERATING_MODEL
from loam_runtime.synthesis.filters.unsafe import UnsafeFilter
from loam_runtime.synthesis.filters.wrong_answers import WrongAnswers
from loam_runtime.synthesis.strategies.base import SamplingSettings, TaskBrief

if TYPE_CHECKING:
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
        ExactDuplicateFilter(brief.seeds, is_classification=brief.is_classification),
        *_build_enabled(_VALIDITY, brief, settings),
    ]
    if settings.structured.enabled and not brief.is_classification:
        built.append(StructuredFilter(brief.seeds, brief.database))  # a query may take seconds
    return built


def build_judges(
    brief: TaskBrief,
    settings: Filters,
    *,
    held_out: Mapping[str, str],
    quality_threshold: float,
    consistency: Sequence[Filter] = (),
    wrong_answers: WrongAnswers | None = None,
) -> list[Filter]:
    """What decides which valid rows are good enough.

    Args:
        held_out: inputs of test and validation rows that no row may repeat, by the row's name.
        consistency: what judges labels without asking, see `build_label_judges`.
        wrong_answers: what the quality classifier may ask for, see `build_wrong_answers`.
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
    quality = QualityFilter(
        brief.seeds,
        quality_threshold,
        is_classification=brief.is_classification,
        random_seed=brief.random_seed,
        wrong_answers=wrong_answers,
        database=brief.database if settings.structured.enabled else None,
    )
    return [*judges, quality, *consistency]


def build_wrong_answers(
    brief: TaskBrief, *, teacher: Teacher, sampling: SamplingSettings, num_rows: int
) -> WrongAnswers | None:
    """Bad examples for the quality classifier to ask for; None where it asks for none.

    Of a label there are others, of a preference pair there is a refused answer, and a base model
    that continues a text cannot be told to be wrong.

    Args:
        num_rows: rows wanted, or to be judged.
    """
    if brief.is_classification or brief.has_pairs or not teacher.is_chat:
        return None
    most = limit_wrong_answers(num_rows, len(brief.seeds))
    made = WrongAnswers(brief, sampling, most)
    return made if made.rows else None


def build_unsafe_judges(
    brief: TaskBrief,
    settings: Filters,
    *,
    teacher: Teacher,
    judge: Teacher | None,
    max_tokens: int,
    on_untrusted: str,
) -> list[AskedFilter]:
    """What looks for harm, where that is switched on.

    Args:
        judge: who is asked, where there is one; else the teacher.
        max_tokens: of an answer about a row.
        on_untrusted: "fail", or anything else to keep the rows.

    Raises:
        InputError: who is asked follows no instructions.
    """
    if not settings.unsafe.enabled:
        return []
    asked = judge or teacher
    if not asked.is_chat:
        raise InputError(
            f"filters.unsafe asks a model that follows instructions, and {asked.model} continues "
            "texts.",
            remedy="Name a chat model as judge or teacher.",
        )
    return [
        UnsafeFilter(
            brief,
            max_tokens,
            on_untrusted="fail" if on_untrusted == "fail" else "keep",
            respondent="judge" if judge else "teacher",
            judge_name=judge.model if judge else GENERATING_MODEL,
        )
    ]


def build_pair_judges(brief: TaskBrief, max_tokens: int) -> list[AskedFilter]:
    """What makes a generated preference pair one.

    Args:
        max_tokens: of an answer about a pair.
    """
    return [PreferenceFilter(brief, max_tokens)] if brief.has_pairs else []


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
