"""The study's apparatus: one loaded model, on which rows are written, filtered, learned, measured.

Everything is done by Loam's own functions, in this process and without Ray.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from benchmarks.study.arms import Funnel
from benchmarks.study.tasks import Draw
from peft import PeftModel

from loam_api.filters_block import Filters
from loam_runtime.data.examples import Example
from loam_runtime.data.template import encode_example
from loam_runtime.evaluation.likelihood import PRIOR_INPUTS, compute_log_prior, pick_labels
from loam_runtime.evaluation.session import Session
from loam_runtime.models.language_model import LanguageModel
from loam_runtime.models.loading import load_base, load_tokenizer, prepare_model_folder
from loam_runtime.observability.monitor import NullMonitor
from loam_runtime.storage.registry import open_store
from loam_runtime.synthesis.drawing import Drawing
from loam_runtime.synthesis.filters.base import FilterChain
from loam_runtime.synthesis.filters.consistency import ConsistencyFilter
from loam_runtime.synthesis.filters.label_judges import build_scored_consistency
from loam_runtime.synthesis.filters.registry import build_judges, build_validity_filters
from loam_runtime.synthesis.strategies.base import SamplingSettings, TaskBrief
from loam_runtime.synthesis.teachers import SelfTeacher
from loam_runtime.training.config import TrainConfig
from loam_runtime.training.local import fit_locally

BATCH_SIZE = 32
MAX_NEW_TOKENS = 28  # a row of 14 words
QUALITY_THRESHOLD = 0.85  # the default of a job; advisory with so few seeds


@dataclass(frozen=True, slots=True)
class Recipe:
    """Training, the same for every arm: as many steps of as many rows at the same rate."""

    num_steps: int = 16
    global_batch: int = 8
    learning_rate: float = 6e-4


class Lab:
    """A base model and what is done with it.

    Args:
        model: folder or .gguf file.
        scratch: for the teacher's journal and adapters on their way.
    """

    def __init__(self, model: Path, scratch: Path, recipe: Recipe) -> None:
        self._folder = prepare_model_folder(model)
        self._scratch = scratch
        scratch.mkdir(parents=True, exist_ok=True)
        self._recipe = recipe
        self._tokenizer = load_tokenizer(self._folder)

    @cached_property
    def _base(self) -> LanguageModel:
        model = load_base(self._folder, device="cpu", dtype=torch.float32)
        return LanguageModel(model, self._tokenizer)

    def write_rows(
        self, draw: Draw, per_class: int, temperature: float, seed: int
    ) -> tuple[list[Example], dict[str, object]]:
        """Rows by the in-context strategy: well-formed, otherwise unfiltered; and its counts."""
        drawing = Drawing(
            SelfTeacher(self._base, self._folder.name, batch_size=BATCH_SIZE),
            "inContext",
            SamplingSettings(temperature=temperature, max_tokens=MAX_NEW_TOKENS),
            self._scratch / "journal",
            run_id=f"{draw.task.name}-{seed}-{temperature}",
        )
        brief = replace(_describe_task(draw), random_seed=seed)
        chain = FilterChain([], is_classification=True)
        collection, _ = drawing.draw(brief, chain, dict.fromkeys(draw.task.labels, per_class))
        return collection.kept, collection.describe()

    def filter_rows(self, draw: Draw, rows: Sequence[Example]) -> Funnel:
        """All filters of a job in their order, with their defaults."""
        brief = _describe_task(draw)
        judges = build_judges(
            brief,
            Filters(),
            held_out={f"test row {n}": row.input for n, row in enumerate(draw.test, start=1)},
            quality_threshold=QUALITY_THRESHOLD,
            consistency=[build_scored_consistency(brief, self._base, draw.task.contract)],
        )
        chain = FilterChain(
            [*build_validity_filters(brief, Filters()), *judges], is_classification=True
        )
        chain.apply(rows)
        return Funnel({one.row.id: one.filter for one in chain.rejected}, chain.describe())

    def force_consistency(self, draw: Draw, rows: Sequence[Example]) -> list[Example]:
        """The rows that label consistency keeps where it judges whether or not it is trusted, as
        in arXiv:2404.02422."""
        seeds, seed = draw.seeds, draw.seed
        judge = ConsistencyFilter(self._base, draw.task.contract, seeds, random_seed=seed)
        judge.trust = replace(judge.measure(), p_value=0.0)
        verdicts = judge.judge(rows)
        return [row for row, verdict in zip(rows, verdicts, strict=True) if not verdict.reason]

    def measure_base(self, draw: Draw, shots: Sequence[Example]) -> dict[str, str]:
        """The base model on the test rows, shown these examples."""
        pairs = [(row.input, row.target) for row in shots]
        return _measure(self._base, draw, pairs)

    def measure_trained(self, draw: Draw, rows: Sequence[Example]) -> dict[str, Any]:
        """Train an adapter on the rows and measure it; the same rows give the same figures."""
        contract = draw.task.contract
        encoded = [encode_example(contract, self._tokenizer, row) for row in rows]
        config = TrainConfig(
            "lora",
            self._recipe.learning_rate,
            max_steps=self._recipe.num_steps,
            global_batch=self._recipe.global_batch,
            micro_batch=self._recipe.global_batch,
            checkpoint_every_seconds=1e9,
            seed=draw.seed,
        )
        with tempfile.TemporaryDirectory(dir=self._scratch) as name:
            folder = Path(name)
            result = fit_locally(
                config,
                self._folder,
                encoded,
                [],
                storage=open_store(f"file://{folder}/store"),
                work_dir=folder / "work",
                output_dir=folder / "adapter",
            )
            tuned = PeftModel.from_pretrained(self._base.model, folder / "adapter").eval()
        try:
            measured = _measure(LanguageModel(tuned, self._tokenizer), draw, ())
        finally:
            tuned.unload()
        return {**measured, "loss": round(result.losses[-1], 4)}


def _describe_task(draw: Draw) -> TaskBrief:
    return TaskBrief(
        seeds=draw.seeds,
        is_classification=True,
        random_seed=draw.seed,
        label_names=draw.task.contract.verbalizers,
        task="classification",
    )


def _measure(lm: LanguageModel, draw: Draw, shots: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Which test rows are right by likelihood, as a string of 0 and 1 in the rows' order.

    Returns:
        "raw", and "calibrated" by inputs without content.
    """
    contract = draw.task.contract
    session = Session(lm, contract, tuple(shots), MAX_NEW_TOKENS, BATCH_SIZE, NullMonitor())
    labels = contract.labels
    candidates = [session.encode_target(label) for label in labels]
    contents = [*PRIOR_INPUTS, *(row.input for row in draw.test)]
    prompts = [session.encode(Example(id="", input=text, target="")) for text in contents]
    scores = session.score(prompts, candidates)
    prior, scores = compute_log_prior(scores[: len(PRIOR_INPUTS)]), scores[len(PRIOR_INPUTS) :]
    return {
        name: "".join(
            str(int(label == row.target))
            for label, row in zip(pick_labels(values, labels), draw.test, strict=True)
        )
        for name, values in (("raw", scores), ("calibrated", scores - prior))
    }
