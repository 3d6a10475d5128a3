"""The identity of a run: two jobs with one key give the same result, so it is made once."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from loam_api.finetunejob import FineTuneJob
from loam_api.synthesis_block import Synthesis

KEY_LENGTH = 16

# Not part of the result: where the inputs lie (their digests count), where the outputs go,
# how fast and on what the work is done, what may change while the job runs.
IGNORED_FIELDS = (
    "model.uri",
    "model.revision",
    "data.seeds.uri",
    "data.test.uri",
    "data.validation.uri",
    "synthesis.teacher.openai.apiKeySecretRef",
    "synthesis.teacher.openai.concurrency",
    "synthesis.teacher.openai.timeoutSeconds",
    "synthesis.teacher.openai.mode",
    "synthesis.teacher.openai.prices",
    "synthesis.judge.openai.apiKeySecretRef",
    "synthesis.judge.openai.concurrency",
    "synthesis.judge.openai.timeoutSeconds",
    "synthesis.judge.openai.mode",
    "synthesis.judge.openai.prices",
    "evaluation.judge.openai.apiKeySecretRef",
    "evaluation.judge.openai.concurrency",
    "evaluation.judge.openai.timeoutSeconds",
    "evaluation.judge.openai.mode",
    "evaluation.judge.openai.prices",
    "evaluation.judge.budget",
    "synthesis.annotationPrice",
    "synthesis.budget",
    "synthesis.filters.structured.database.uri",
    "training.microBatch",
    "training.checkpoint",
    "model.secretRef",
    "output.uri",
    "output.secretRef",
    "compute",
    "suspend",
    "backoffLimit",
    "activeDeadlineSeconds",
    "clusterTTLSeconds",
)


def compute_run_key(
    job: FineTuneJob,
    *,
    seeds_digest: str,
    model_digest: str,
    runtime_version: str,
    test_digest: str = "",
    validation_digest: str = "",
    database_digest: str = "",
) -> str:
    """Sixteen hex digits from the spec with its defaults and the content of all inputs.

    Args:
        job: the job; its name, namespace and `IGNORED_FIELDS` do not count.
        seeds_digest: content digest of the seed files.
        model_digest: content digest of the base model.
        runtime_version: version of what the runtime's stages write and read.
        test_digest: content digest of `data.test`; "" without one.
        validation_digest: content digest of `data.validation.uri`; "" without one.
        database_digest: content digest of the database that SQL answers run in; "" without one.
    """
    spec = job.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    for path in IGNORED_FIELDS:
        _remove(spec, path)
    payload = {
        "spec": spec,
        "seeds": seeds_digest,
        "model": model_digest,
        "test": test_digest,
        "validation": validation_digest,
        "runtime": runtime_version,
        **({"database": database_digest} if database_digest else {}),
    }
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:KEY_LENGTH]


def describe_synthesis(synthesis: Synthesis) -> dict[str, Any]:
    """What of a synthesis shapes its rows, as plain data: without `IGNORED_FIELDS`."""
    parts = {"synthesis": synthesis.model_dump(mode="json", by_alias=True, exclude_none=True)}
    for path in (*IGNORED_FIELDS, "synthesis.spotCheck"):
        _remove(parts, path)
    return parts["synthesis"]


def _remove(spec: dict[str, Any], path: str) -> None:
    *parents, last = path.split(".")
    node: Any = spec
    for name in parents:
        node = node.get(name) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node.pop(last, None)
