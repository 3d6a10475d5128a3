"""Declare the run finished: the manifest names every file, and what it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loam_runtime.export.manifest import build_manifest, describe_files
from loam_runtime.steps.lineage import read_base

if TYPE_CHECKING:
    from loam_runtime.stages import StageRunner
    from loam_runtime.steps.context import JobContext


def publish_run(context: JobContext, stages: StageRunner) -> None:
    """Write manifest.json, `_SUCCESS` and `latest.json`, in this order."""
    results = stages.results
    trained = results["train"]
    # As they were stored: none is fetched to be hashed.
    digests: dict[str, str] = {}
    for output in stages.outputs.values():
        digests |= output.files
    sizes = {one.key: one.size for one in context.run.list()}
    synthesis = results.get("synthesize", {})
    context.run.publish(
        build_manifest(
            job=context.job.metadata.name,
            run_key=context.run_key,
            spec=context.job.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
            base=read_base(trained["lineage"]),
            inputs=trained["lineage"]["inputs"],
            split=results["split"],
            timings=stages.seconds,
            usage=synthesis.get("usage", {}),
            files=describe_files(digests, sizes),
            results={
                "verdict": results["report"]["verdict"],
                **({"judge": results["judge"]} if "judge" in results else {}),
                "verification": trained["verification"],
                "computePrecision": trained["config"]["precision"],
                "quantization": trained["quantization"],
            },
        )
    )
