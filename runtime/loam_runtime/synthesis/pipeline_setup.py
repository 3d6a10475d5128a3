"""What a `SyntheticPipeline` was given, and what is built of it for one of its calls."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from loam_api.filters_block import Filters
from loam_runtime.synthesis.database import fetch_database
from loam_runtime.synthesis.drawing import Drawing
from loam_runtime.synthesis.filters.base import FilterChain
from loam_runtime.synthesis.filters.label_judges import OnUntrustedFilter, build_label_judges
from loam_runtime.synthesis.filters.registry import (
    build_judges,
    build_pair_judges,
    build_unsafe_judges,
    build_validity_filters,
    build_wrong_answers,
)
from loam_runtime.synthesis.strategies.base import TaskBrief

if TYPE_CHECKING:
    from datasets import Dataset

    from loam_runtime.data.prompt import PromptContract


@dataclass(frozen=True, slots=True)
class PipelineSetup:
    """Settings that were checked, of one pipeline.

    Attributes:
        drawing: teacher, judge, strategy, sampling, budget and journal; without a run's name.
        filters: their settings.
        quality_threshold: least probability of being good that is kept.
        on_untrusted_filter: what to do where the label-consistency filter is not trusted.
        random_seed: fixes what is asked.
    """

    drawing: Drawing
    filters: Filters
    quality_threshold: float
    on_untrusted_filter: OnUntrustedFilter
    random_seed: int

    def write_brief(
        self,
        examples: Dataset,
        task: str,
        description: str,
        constraints: Sequence[str] = (),
        languages: Mapping[str, float] = MappingProxyType({}),
    ) -> TaskBrief:
        """The task, from examples of whatever columns.

        Raises:
            InputError: examples that cannot be used.
        """
        from loam_runtime.synthesis.columns import read_seeds

        seeds, task = read_seeds(examples, task)
        return TaskBrief(
            seeds=tuple(seeds),
            is_classification=task == "classification",
            description=description,
            constraints=tuple(constraints),
            random_seed=self.random_seed,
            task=task,
            languages=dict(languages),
            database=fetch_database(self.filters),
        )

    def open_drawing(self, brief: TaskBrief, target_count: int, purpose: str = "") -> Drawing:
        """The drawing of one call, under the name of its run in the journal."""
        return replace(self.drawing, run_id=self._compute_run_id(brief, target_count, purpose))

    def build_validity_chain(self, brief: TaskBrief) -> FilterChain:
        """What makes a generated row a valid one."""
        return FilterChain(
            build_validity_filters(brief, self.filters),
            build_pair_judges(brief, self.drawing.sampling.max_tokens),
            is_classification=brief.is_classification,
        )

    def build_judging_chain(
        self, brief: TaskBrief, num_rows: int, test_inputs: Sequence[str]
    ) -> FilterChain:
        """What decides which valid rows are good enough.

        Args:
            num_rows: rows to be judged.
            test_inputs: held-out inputs that no row may repeat.
        """
        sampling, teacher = self.drawing.sampling, self.drawing.teacher
        options: Any = {
            "teacher": teacher,
            "judge": self.drawing.label_judge,
            "max_tokens": sampling.max_tokens,
            "on_untrusted": self.on_untrusted_filter,
        }
        labels = build_label_judges(
            brief, self.filters, contract=self._build_contract(brief), **options
        )
        judges = build_judges(
            brief,
            self.filters,
            held_out={f"test row {row}": text for row, text in enumerate(test_inputs, start=1)},
            quality_threshold=self.quality_threshold,
            consistency=labels.scored,
            wrong_answers=build_wrong_answers(
                brief, teacher=teacher, sampling=sampling, num_rows=num_rows
            ),
        )
        asked = [*build_unsafe_judges(brief, self.filters, **options), *labels.asked]
        return FilterChain(judges, asked, is_classification=brief.is_classification)

    def _build_contract(self, brief: TaskBrief) -> PromptContract | None:
        model = self.drawing.teacher.language_model
        if not brief.is_classification or model is None:
            return None
        from loam_runtime.data.prompt import build_contract
        from loam_runtime.synthesis.columns import describe_data

        data = describe_data("classification", brief.description)
        return build_contract(data, brief.labels, model.tokenizer)

    def _compute_run_id(self, brief: TaskBrief, target_count: int, purpose: str) -> str:
        teacher, judge = self.drawing.teacher, self.drawing.label_judge
        shape = [
            *([purpose] if purpose else []),
            teacher.model,
            teacher.endpoint,
            self.drawing.strategy,
            asdict(self.drawing.sampling),
            self.filters.model_dump(mode="json"),
            target_count,
            [seed.id for seed in brief.seeds],
            brief.description,
            brief.constraints,
            brief.random_seed,
            brief.task,
            sorted(brief.languages.items()),
            *([judge.model, judge.endpoint] if judge else []),
        ]
        return hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:16]
