"""The operator's own look at a job: what the API server's rules cannot say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from loam_api.finetunejob import FineTuneJobSpec
from loam_api.validation import ManifestError, validate_manifest
from loam_operator.observed import JobView

_MANY = 5


class SpecError(Exception):
    """A job that cannot run in a cluster; the message has every reason, for its writer."""


def check_spec(job: JobView) -> FineTuneJobSpec:
    """The validated spec.

    Raises:
        SpecError: with all that is wrong.
    """
    manifest = build_manifest(job)
    try:
        spec = _validate(json.dumps(manifest))
    except ManifestError as error:
        problems = [str(problem) for problem in error.problems]
        raise SpecError(" ".join(f"{problem}." for problem in problems[:_MANY])) from error
    local = list(_find_local(manifest["spec"], "spec"))
    if local:
        raise SpecError(
            f"{local[0]}: a file:// address is a place on one machine; in a cluster use s3://"
        )
    if spec.synthesis and spec.synthesis.judge and spec.synthesis.teacher.kind == "self":
        raise SpecError(
            "spec.synthesis.judge: the base model writes on a GPU, which would wait for the "
            "judge; in a cluster a judge needs a teacher of kind openai"
        )
    return spec


@lru_cache(maxsize=256)  # each pass over a job asks anew, and its spec hardly ever changes
def _validate(manifest: str) -> FineTuneJobSpec:
    return validate_manifest(json.loads(manifest)).spec


def build_manifest(job: JobView) -> dict[str, Any]:
    """The job as the runtime reads it: what a user wrote, without what Kubernetes added."""
    return {
        "apiVersion": "loam.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": job.name, "namespace": job.namespace},
        "spec": dict(job.spec),
    }


def _find_local(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, child in value.items():
            yield from _find_local(child, f"{path}.{name}")
    elif path.endswith(".uri") and isinstance(value, str) and value.startswith("file://"):
        yield path
