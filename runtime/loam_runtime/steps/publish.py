"""Declare the run finished: the manifest names every file, and what it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loam_runtime.export.manifest import build_manifest, describe_files
from loam_runtime.steps.export import describe_base

if TYPE_CHECKING:
    from loam_runtime.stages import StageRunner
    from loam_runtime.steps.context import JobContext


def publish_run(context: JobContext, stages: StageRunner) -> None:
    """Write manifest.json, `_SUCCESS` and `latest.json`, in this order."""
    results = stages.results
    quantization = results["train"]["quantization"]
    files: dict[str, dict[str, object]] = {}
    for folder in stages.folders:
        files |= describe_files(folder)
    synthesis = results.get("synthesize", {})
    context.run.publish(
        build_manifest(
            job=context.job.metadata.name,
            run_key=context.run_key,
            spec=context.job.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
            base=describe_base(context, quantization),
            inputs=context.sources.digests,
            split=results["split"],
            timings=stages.seconds,
            usage=synthesis.get("usage", {}),
            files=files,
            results={
                "verdict": results["report"]["verdict"],
                "verification": results["train"]["verification"],
                "computePrecision": context.precision,
                "quantization": quantization,
            },
        )
    )
