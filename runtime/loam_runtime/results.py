"""A job's latest published run: its verdict, its files, its adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_runtime.errors import InputError
from loam_runtime.storage.base import NotFoundError
from loam_runtime.storage.cache import digest_path, fetch
from loam_runtime.storage.registry import open_store, resolve_uri

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from loam_api.finetunejob import FineTuneJob
    from loam_runtime.data.prompt import PromptContract
    from loam_runtime.storage.base import ObjectStore

_DIGEST_DIGITS_SHOWN = 12


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

    def read_manifest(self) -> dict[str, Any]:
        """The run's `manifest.json`."""
        return json.loads(self.read("manifest.json"))

    def describe_stranger(self, job: FineTuneJob) -> str:
        """A sentence that names the job that made this run; "" where that is `job`."""
        maker = self.read_manifest()["job"]
        if maker == job.metadata.name:
            return ""
        return (
            f"The latest run under {self.store.uri} was made by the job {maker}, not by "
            f"{job.metadata.name}."
        )

    def summary(self) -> dict[str, Any]:
        """The job, its verdict and the places, as plain JSON."""
        manifest = self.read_manifest()
        return {
            "job": manifest["job"],
            "runKey": self.run_key,
            "verdict": manifest["results"]["verdict"],
            "judge": manifest["results"].get("judge"),
            "adapter": f"{self.uri}/adapter",
            "report": f"{self.uri}/report.html",
        }

    def describe(self) -> str:
        """The summary in a few lines."""
        return "\n".join(describe_run_summary(self.summary()))


def describe_run_summary(summary: Mapping[str, Any]) -> list[str]:
    """What `LatestRun.summary` gives, in a few lines: the verdict, the judge's, the places."""
    judged = [summary["judge"]["text"]] if summary["judge"] else []
    places = [f"Adapter: {summary['adapter']}", f"Report:  {summary['report']}"]
    return [summary["verdict"]["text"], *judged, *places]


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


def answer_texts(
    latest: LatestRun, job: FineTuneJob, base_dir: Path, texts: Sequence[str]
) -> list[str]:
    """Answer inputs with the published adapter, one greedy answer each; plain text is continued.

    Raises:
        InputError: the job names another base model than the adapter's.
    """
    manifest = latest.read_manifest()
    base_path = _fetch_base(job, base_dir, manifest["base"])

    from loam_runtime.data.prompt import PromptContract
    from loam_runtime.models import loading
    from loam_runtime.models.language_model import LanguageModel

    adapter = fetch(f"{latest.uri}/adapter")
    results = manifest["results"]
    contract = PromptContract.from_json((adapter / "loam_prompt.json").read_text("utf-8"))
    device = loading.resolve_device(job.spec.compute.device)
    model = loading.load_published(
        loading.prepare_model_folder(base_path),
        adapter,
        device=device,
        dtype=loading.resolve_precision(results["computePrecision"], device),
        quantization=results["quantization"],
    )
    tokenizer = loading.load_tokenizer(adapter)
    answers = LanguageModel(model, tokenizer).generate(
        [encode_question(contract, tokenizer, text) for text in texts],
        max_new_tokens=contract.rationale_tokens + job.spec.evaluation.max_new_tokens,
        stop_at_newline=contract.task == "classification" and not contract.rationale_tokens,
    )
    return [answer.text.strip() for answer in answers]


def encode_question(
    contract: PromptContract, tokenizer: PreTrainedTokenizerBase, text: str
) -> list[int]:
    """The tokens that the model continues: the prompt of an input, or the plain text itself.

    Raises:
        InputError: an empty text, where the tokenizer has no BOS to begin with.
    """
    from loam_runtime.data.template import encode_prompt, encode_target

    if contract.task != "text":
        return encode_prompt(contract, tokenizer, text)
    begun = encode_target(contract, tokenizer, text)[:-1]  # the terminator would end it
    tokens = [*encode_prompt(contract, tokenizer, ""), *begun]
    if not tokens:
        raise InputError("There is no text to continue.", remedy="Give its beginning.")
    return tokens


def _fetch_base(job: FineTuneJob, base_dir: Path, trained_on: Mapping[str, str]) -> Path:
    """The base model that the job names.

    Args:
        trained_on: "base" of the run's manifest.

    Raises:
        InputError: it is not the one that the run's adapter was trained on.
    """
    model = job.spec.model
    path = fetch(model.uri, revision=model.revision, base_dir=base_dir)
    digest = digest_path(path)
    if digest != trained_on["sha256"]:
        raise InputError(
            f"The base model at {model.uri} has the SHA-256 {digest[:_DIGEST_DIGITS_SHOWN]}..., "
            "and the latest run's adapter belongs to one with "
            f"{trained_on['sha256'][:_DIGEST_DIGITS_SHOWN]}..., read from {trained_on['uri']}.",
            remedy="Let spec.model name that model again, or run the job with this one: loam run.",
        )
    return path
