"""A job's latest published run: its verdict, its files, its adapter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_runtime.errors import InputError
from loam_runtime.storage.base import NotFoundError
from loam_runtime.storage.registry import open_store, resolve_uri

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJob
    from loam_runtime.storage.base import ObjectStore


@dataclass(frozen=True, slots=True)
class LatestRun:
    """What `latest.json` of a job's output points to."""

    store: ObjectStore
    run_key: str

    @property
    def uri(self) -> str:
        return f"{self.store.uri.rstrip('/')}/runs/{self.run_key}"

    def read(self, name: str) -> bytes:
        """One published file of the run."""
        return self.store.get(f"runs/{self.run_key}/{name}")

    def summary(self) -> dict[str, Any]:
        """Verdict, metrics and places, as plain JSON."""
        manifest = json.loads(self.read("manifest.json"))
        return {
            "runKey": self.run_key,
            "verdict": manifest["results"]["verdict"],
            "adapter": f"{self.uri}/adapter",
            "report": f"{self.uri}/report.html",
        }

    def describe(self) -> str:
        """The summary in a few lines."""
        summary = self.summary()
        return "\n".join(
            (
                summary["verdict"]["text"],
                f"Adapter: {summary['adapter']}",
                f"Report:  {summary['report']}",
            )
        )


def load_latest_run(job: FineTuneJob, base_dir: Path) -> LatestRun:
    """Find the run that was published last under the job's output.

    Raises:
        InputError: nothing has been published there.
    """
    uri = resolve_uri(job.spec.output.uri, base_dir)
    store = open_store(uri)
    try:
        latest = json.loads(store.get("latest.json"))
    except NotFoundError as exc:
        raise InputError(
            f"Nothing has been published under {uri} yet.", remedy="Run the job first: loam run."
        ) from exc
    return LatestRun(store, latest["runKey"])


def predict_with_latest(job: FineTuneJob, base_dir: Path, texts: Sequence[str]) -> list[str]:
    """Answer inputs with the published adapter, one greedy answer each."""
    from loam_runtime.data.prompt import PromptContract
    from loam_runtime.data.template import encode_prompt
    from loam_runtime.models import loading
    from loam_runtime.models.language_model import LanguageModel
    from loam_runtime.storage.cache import fetch

    latest = load_latest_run(job, base_dir)
    adapter = fetch(f"{latest.uri}/adapter")
    results = json.loads(latest.read("manifest.json"))["results"]
    contract = PromptContract.from_json((adapter / "loam_prompt.json").read_text("utf-8"))
    base = loading.prepare_model_folder(
        fetch(job.spec.model.uri, revision=job.spec.model.revision, base_dir=base_dir)
    )
    device = loading.resolve_device(job.spec.compute.device)
    model = loading.load_published(
        base,
        adapter,
        device=device,
        dtype=loading.resolve_precision(results["computePrecision"], device),
        quantization=results["quantization"],
    )
    tokenizer = loading.load_tokenizer(adapter)
    prompts = [encode_prompt(contract, tokenizer, text) for text in texts]
    answers = LanguageModel(model, tokenizer).generate(
        prompts,
        max_new_tokens=contract.rationale_tokens + job.spec.evaluation.max_new_tokens,
        stop_at_newline=contract.task == "classification" and not contract.rationale_tokens,
    )
    return [answer.text.strip() for answer in answers]
