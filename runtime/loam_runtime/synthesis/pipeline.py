"""Synthetic training data from a few seed examples, as a library.

    pipeline = SyntheticPipeline(teacher_model="gpt-4-turbo", quality_threshold=0.85)
    synthetic = pipeline.generate(seed_examples=seeds, target_count=1000)
    filtered = pipeline.filter(synthetic)

Three stages: seed analysis, diverse generation with controlled variation, quality filtering.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loam_runtime.data.examples import Example
from loam_runtime.errors import InputError
from loam_runtime.observability.monitor import NullMonitor, StageMonitor
from loam_runtime.storage.local import cache_dir
from loam_runtime.synthesis.budget import PriceList, find_prices
from loam_runtime.synthesis.collect import share_quotas
from loam_runtime.synthesis.dataset import SyntheticDataset
from loam_runtime.synthesis.drawing import Drawing
from loam_runtime.synthesis.embeddings import embed_texts
from loam_runtime.synthesis.filters.label_judges import OnUntrustedFilter
from loam_runtime.synthesis.filters.registry import read_settings
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.pacing import RetryPolicy
from loam_runtime.synthesis.pipeline_setup import PipelineSetup
from loam_runtime.synthesis.strategies.base import SamplingSettings, TaskBrief
from loam_runtime.synthesis.teachers import Teacher

if TYPE_CHECKING:
    from datasets import Dataset

DEFAULT_SAMPLING = SamplingSettings(max_tokens=1024)


class SyntheticPipeline:
    """Generates and filters synthetic examples with a teacher.

    Args:
        teacher_model: name of a model behind an OpenAI-compatible endpoint (OPENAI_BASE_URL and
            OPENAI_API_KEY say which), or a teacher of your own.
        quality_threshold: least probability of being good that `filter` keeps.
        diversity_weight: weight of diversity against quality in the order of what is kept.
        strategy: "seeded" for any task, "inContext" for classification, "rationale" for tasks
            with an input.
        filters: settings of filters by name, as under `synthesis.filters` of a manifest, such as
            {"language": {"enabled": False}}.
        sampling: of the teacher's tokens.
        max_requests, max_tokens, max_cost: budget of one `generate`, and again of one `filter`;
            0 for no limit.
        prices: of a million prompt and completion tokens, in the currency of `max_cost`.
        journal_dir: where answers are kept, so that none is paid for twice; by default in Loam's
            cache folder.
        judge_model: judges the labels of classified rows in the teacher's place: a name, as for
            `teacher_model`, or a teacher of your own.
        judge_prices: as `prices`, of the judge's tokens.
        on_untrusted_filter: what to do where the label-consistency filter is not trusted: "keep"
            the rows unjudged, "fail", or "judge": the teacher judges, and `judge_model` where the
            teacher is not trusted.
        random_seed: fixes what is asked.
        policy: retries and patience.
        monitor: told of progress.

    Raises:
        CredentialsError: a model name, and no API key for OpenAI's own endpoint.
        InputError: a share or a filter's setting that is not accepted.
    """

    def __init__(
        self,
        teacher_model: str | Teacher,
        quality_threshold: float = 0.85,
        diversity_weight: float = 0.3,
        strategy: str = "seeded",
        *,
        filters: Mapping[str, Mapping[str, object]] | None = None,
        sampling: SamplingSettings = DEFAULT_SAMPLING,
        max_requests: int = 0,
        max_tokens: int = 0,
        max_cost: float = 0.0,
        prices: tuple[float, float] | None = None,
        journal_dir: Path | None = None,
        judge_model: str | Teacher | None = None,
        judge_prices: tuple[float, float] | None = None,
        on_untrusted_filter: OnUntrustedFilter = "keep",
        random_seed: int = 0,
        policy: RetryPolicy | None = None,
        monitor: StageMonitor | None = None,
    ) -> None:
        teacher = _connect(teacher_model)
        judge = _connect(judge_model) if judge_model is not None else None
        if on_untrusted_filter == "judge" and judge is None:
            raise InputError('on_untrusted_filter="judge" needs a judge_model.')
        self._diversity_weight = _check_share("diversity_weight", diversity_weight)
        drawing = Drawing(
            teacher=teacher,
            strategy=strategy,
            sampling=sampling,
            journal_dir=journal_dir or cache_dir() / "teacher" / "journal",
            run_id="",
            max_requests=max_requests,
            max_tokens=max_tokens,
            max_cost=max_cost,
            prices=find_prices(teacher.model, prices),
            label_judge=judge,
            judge_prices=find_prices(judge.model, judge_prices) if judge else PriceList(),
            policy=policy or RetryPolicy(),
            monitor=monitor or NullMonitor(),
        )
        _check_prices(drawing)
        self._setup = PipelineSetup(
            drawing,
            read_settings(filters or {}),
            _check_share("quality_threshold", quality_threshold),
            on_untrusted_filter,
            random_seed,
        )

    def generate(
        self,
        seed_examples: Dataset,
        target_count: int,
        task_description: str = "",
        domain_constraints: Sequence[str] = (),
        *,
        task: str = "",
        languages: Mapping[str, float] | None = None,
    ) -> SyntheticDataset:
        """Have `target_count` valid examples written: well-formed, and none said before.

        Fewer are returned where the teacher's yield is too low; `report["missing"]` says so.

        Args:
            seed_examples: columns text and label, prompt and completion, question and answer,
                chat messages, text, or those of Loam's own tables.
            target_count: examples wanted.
            task_description: the task in a sentence or two.
            domain_constraints: what every example must respect.
            task: as `data.task` of a manifest: classification, generation, extraction,
                summarization or text; "" goes by the columns.
            languages: share of the rows by language (ISO 639-1); by default the seeds' own.

        Raises:
            InputError: seeds that cannot be used, or a strategy that does not fit them.
            BudgetError: the budget ended before half of them were there; the answers are kept for
                the next call.
            CredentialsError, TeacherError: the teacher refuses, is down, or is of no use.
        """
        if target_count < 1:
            raise InputError(f"target_count must be 1 or more, not {target_count}.")
        brief = self._setup.write_brief(
            seed_examples, task, task_description, domain_constraints, languages or {}
        )
        return self._draw(brief, target_count)

    def explain(
        self, seed_examples: Dataset, task_description: str = "", *, task: str = ""
    ) -> SyntheticDataset:
        """The examples with rationales: why each answer is right, for training on both.

        An example that has one keeps it, one without an input, or whose rationale the teacher did
        not come to, has none; `report` says how many and why. Arguments are those of `generate`.

        Raises:
            InputError: examples that cannot be used.
            CredentialsError, TeacherError: the teacher refuses, or is down.
        """
        brief = self._setup.write_brief(seed_examples, task, task_description)
        explained, usage = self._setup.open_drawing(brief, 0).explain(brief)
        rows = [
            replace(seed, rationale=seed.rationale or explained.texts.get(seed.id, ""))
            for seed in brief.seeds
        ]
        return SyntheticDataset(rows, brief, usage=usage, report=explained.describe())

    def filter(
        self, synthetic: SyntheticDataset, test_inputs: Sequence[str] = ()
    ) -> SyntheticDataset:
        """The rows that are good enough, best first; never asks for more rows.

        Of classification it asks a teacher without log-probabilities, or the judge, what the rows'
        labels are; with the filter `unsafe` it asks what is harmful. Of other tasks it asks the
        teacher for at most 20 wrong answers, for the quality classifier to learn from.

        Args:
            synthetic: what `generate` returned, or a part of it; it carries its seeds.
            test_inputs: held-out inputs that no row may repeat.

        Raises:
            InputError: the label-consistency filter is not trusted and shall then fail.
            BudgetError, CredentialsError, TeacherError: from a teacher that is asked.
        """
        from loam_runtime.synthesis.measures import measure_rows
        from loam_runtime.synthesis.selection import select_rows

        brief = synthetic.brief
        chain = self._setup.build_judging_chain(brief, len(synthetic), test_inputs)
        usage = synthetic.usage
        if chain.asks:
            drawing = self._setup.open_drawing(brief, len(synthetic), "filter")
            passed, spent = drawing.judge(synthetic.rows, chain)
            usage = {name: usage.get(name, 0) + value for name, value in spent.items()}
        else:
            passed = chain.apply(synthetic.rows)
        kept = select_rows(
            passed,
            chain.scores,
            dict.fromkeys(brief.labels, len(passed)),
            seeds=brief.seeds,
            diversity_weight=self._diversity_weight,
            embed=embed_texts,
        )
        return SyntheticDataset(
            rows=kept,
            brief=brief,
            rejected=[*synthetic.rejected, *(one.to_record() for one in chain.rejected)],
            usage=usage,
            report={
                **synthetic.report,
                "filters": {**synthetic.report.get("filters", {}), **chain.describe()},
                "kept": len(kept),
                "retention": len(kept) / len(synthetic) if len(synthetic) else None,
                "measures": measure_rows(
                    kept,
                    brief.seeds,
                    is_classification=brief.is_classification,
                    embed=embed_texts,
                    random_seed=brief.random_seed,
                ),
            },
        )

    def _draw(self, brief: TaskBrief, target_count: int) -> SyntheticDataset:
        drawing = self._setup.open_drawing(brief, target_count)
        chain = self._setup.build_validity_chain(brief)
        quotas = share_quotas(target_count, brief, is_even=drawing.strategy == "inContext")
        collection, usage = drawing.draw(brief, chain, quotas)
        rows = _take_quotas(collection.kept, quotas)
        return SyntheticDataset(
            rows=rows,
            brief=brief,
            rejected=[one.to_record() for one in (*collection.malformed, *chain.rejected)],
            usage=usage,
            report={
                **collection.describe(),
                **collection.strategy.describe(rows),
                "filters": chain.describe(),
                "wanted": target_count,
                "missing": target_count - len(rows),
                "stopped": collection.stopped,
            },
        )


def _connect(model: str | Teacher) -> Teacher:
    return OpenAICompatibleTeacher(model) if isinstance(model, str) else model


def _take_quotas(rows: Sequence[Example], quotas: dict[str, int]) -> list[Example]:
    """The first rows of each label, up to its quota, in the order they were drawn."""
    left = dict(quotas)
    taken = []
    for row in rows:
        label = row.target if row.target in left else ""
        if left[label] > 0:
            left[label] -= 1
            taken.append(row)
    return taken


def _check_share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise InputError(f"{name} must lie between 0 and 1, not {value}.")
    return value


def _check_prices(drawing: Drawing) -> None:
    if not drawing.max_cost:
        return
    asked = {"prices": (drawing.teacher, drawing.prices)}
    if drawing.label_judge is not None:
        asked["judge_prices"] = (drawing.label_judge, drawing.judge_prices)
    for argument, (model, prices) in asked.items():
        if not prices:
            raise InputError(
                f"max_cost needs the prices of {model.model!r}, which are not known.",
                remedy=f"Give {argument}=(prompt, completion), each for a million tokens.",
            )
