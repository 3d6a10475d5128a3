"""Let the teacher write more training rows, and keep the good ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_runtime.data.examples import iterate_examples
from loam_runtime.data.export import write_json_lines
from loam_runtime.data.prompt import build_contract
from loam_runtime.data.tables import read_table, write_table
from loam_runtime.secrets import read_secret
from loam_runtime.steps.data_card import write_data_card
from loam_runtime.steps.review import offer_sample
from loam_runtime.steps.rows import write_rationales, write_wrong_answers
from loam_runtime.storage.cache import cache_dir
from loam_runtime.storage.registry import is_local, open_store
from loam_runtime.synthesis.completions_teacher import CompletionsTeacher
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.provider_batches import BatchTeacher
from loam_runtime.synthesis.stage import SynthesisResult, synthesize
from loam_runtime.synthesis.teachers import SelfTeacher

if TYPE_CHECKING:
    from datasets import Dataset

    from loam_api.synthesis_block import OpenAITeacher
    from loam_runtime.data.prompt import PromptContract
    from loam_runtime.observability.monitor import StageMonitor
    from loam_runtime.steps.context import InputContext, JobContext
    from loam_runtime.synthesis.teachers import Teacher


def synthesize_rows(
    context: JobContext, split: Path, out: Path, monitor: StageMonitor
) -> dict[str, Any]:
    """Write `data/synthetic.parquet` and `rejected/synthetic.jsonl`; return funnel and usage.

    Rationales of the training rows go to `data/rationales.jsonl`, where any were asked for. The
    data card goes beside the rows, as `data/README.md`.
    """
    train = read_table(split / "data" / "train.parquet")
    contract = build_contract(context.job.spec.data, train["target"], context.tokenizer)
    result = draw_rows(context, train, contract, _read_held_out(split), monitor)
    _write_result(result, out)
    card = write_data_card(context.job, len(train), result.report, result.rejected)
    (out / "data" / "README.md").write_text(card, encoding="utf-8")
    offer_sample(context, list(iterate_examples(result.kept)), result.scores, out)
    return {"report": result.report, "usage": result.usage}


def draw_rows(
    context: InputContext,
    train: Dataset,
    contract: PromptContract,
    held_out: Mapping[str, str],
    monitor: StageMonitor,
) -> SynthesisResult:
    """Synthesize with the job's teacher, journal and seed."""
    spec = context.job.spec
    folder = locate_journals(context)
    with open_teacher(context, monitor) as teacher:
        return synthesize(
            train,
            contract,
            spec.synthesis,
            data=spec.data,
            teacher=teacher,
            judge=connect(spec.synthesis.judge.openai) if spec.synthesis.judge else None,
            held_out=held_out,
            seed=spec.training.seed,
            journal_dir=folder / "journal",
            journal_store=open_store(locate_answers(context, folder)),
            database=context.sources.database,
            explains=spec.explains_seeds,
            monitor=monitor,
        )


def locate_journals(context: InputContext) -> Path:
    """This machine's folder of all that the namespace's jobs have asked."""
    return cache_dir() / "teacher" / context.job.metadata.namespace


def locate_answers(context: InputContext, folder: Path) -> str:
    """Where answers outlive the run: the next job that asks the same pays nothing.

    On one machine that is its disk; a pod's disk goes with the pod, so there it is the output.
    """
    namespace = context.job.metadata.namespace
    if shared := os.environ.get("LOAM_TEACHER_CACHE"):
        return f"{shared.rstrip('/')}/{namespace}"
    if is_local(context.output_uri):
        return f"file://{folder / 'segments'}"
    return f"{context.output_uri}/cache/teacher/{namespace}"


@contextmanager
def open_teacher(context: InputContext, monitor: StageMonitor) -> Iterator[Teacher]:
    """The teacher that the manifest names; the base model is on all of the job's workers.

    What runs the base model, vLLM or transformers, is decided here, once for all workers.
    """
    spec = context.job.spec
    if spec.synthesis.teacher.kind != "self":
        yield connect(spec.synthesis.teacher.openai)
        return
    name, num_workers = context.sources.digests["model"], spec.compute.workers.max

    from loam_runtime.models.vllm_choice import VLLM_BATCH, choose_engine

    engine = choose_engine(context.model_folder, context.device)
    monitor.log("teacher_engine", engine=engine.name, message=engine.reason)
    if num_workers == 1 and not engine.python:
        yield SelfTeacher(context.base_model, name)
        return

    from loam_runtime.model_workers import open_model_pool, open_vllm_pool

    def note_loss(reason: str) -> None:
        monitor.log("worker_lost", message=reason)

    # One batch in work and one that waits for each worker, so that none waits for this process.
    concurrency = 2 * num_workers
    if engine.python:
        options = {"batch_size": VLLM_BATCH, "endpoint": "self, vllm"}
        with open_vllm_pool(context, num_workers, note_loss, engine.python) as pool:
            yield SelfTeacher(pool, name, concurrency=concurrency, **options)
        return
    with open_model_pool(context, num_workers, note_loss) as pool:
        yield SelfTeacher(pool, name, concurrency=concurrency)


def connect(remote: OpenAITeacher) -> Teacher:
    """A model behind an endpoint that the manifest names, its key read from where secrets are."""
    key = read_secret(remote.api_key_secret_ref) if remote.api_key_secret_ref else ""
    kind = CompletionsTeacher if remote.endpoint == "completions" else OpenAICompatibleTeacher
    online = kind(
        remote.model,
        remote.base_url,
        key,
        concurrency=remote.concurrency,
        timeout_seconds=remote.timeout_seconds,
    )
    return BatchTeacher(online) if remote.mode == "batch" else online


def _read_held_out(split: Path) -> dict[str, str]:
    """What synthetic rows are checked against: test and validation alike."""
    files = {side: split / "data" / f"{side}.parquet" for side in ("test", "validation")}
    return name_inputs({side: read_table(file) for side, file in files.items() if file.exists()})


def name_inputs(tables: Mapping[str, Dataset]) -> dict[str, str]:
    """The inputs of held-out rows (of plain text, the texts) by name: "test row 1", ..."""
    return {
        f"{side} row {number}": example.input or example.target
        for side, table in tables.items()
        for number, example in enumerate(iterate_examples(table), start=1)
    }


def _write_result(result: SynthesisResult, out: Path) -> None:
    write_table(result.kept, out / "data" / "synthetic.parquet")
    rejected = out / "rejected" / "synthetic.jsonl"
    rejected.parent.mkdir(parents=True)
    write_json_lines(result.rejected, rejected)
    if result.rationales:
        write_rationales(result.rationales, out)
    if result.wrong_answers:
        write_wrong_answers(result.wrong_answers, out)
