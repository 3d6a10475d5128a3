"""Assemble what will be published, load it afresh, and prove that it is what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_runtime.export.adapter import BaseModel, assemble_adapter, write_companions
from loam_runtime.export.licenses import find_base_license
from loam_runtime.export.merge import merge_adapter
from loam_runtime.export.verify import verify_adapter, verify_merged
from loam_runtime.training.reference import read_reference

if TYPE_CHECKING:
    from loam_runtime.data.prompt import PromptContract
    from loam_runtime.observability.monitor import StageMonitor
    from loam_runtime.steps.context import JobContext


def export_model(
    context: JobContext,
    contract: PromptContract,
    method: str,
    trained: Path,
    out: Path,
    monitor: StageMonitor,
) -> dict[str, Any]:
    """Write `adapter/`, and `merged/` where the job asks for it; return what was measured.

    Args:
        trained: what the training wrote, with its reference answers.

    Raises:
        ExportError, DivergenceError: what would be published is not what was trained.
    """
    quantization = choose_quantization(method)
    base = describe_base(context, quantization)
    assemble_adapter(trained, context.tokenizer, contract, out / "adapter", base=base)
    prompts, logits = read_reference(trained)
    verification = verify_adapter(
        out / "adapter",
        context.model_folder,
        prompts,
        logits,
        device=context.device,
        dtype=context.dtype,
        quantization=quantization,
    )
    measured = verification.to_dict()
    if context.job.spec.output.merge and method != "full":
        merge_adapter(
            context.model_folder,
            out / "adapter",
            out / "merged",
            device=context.device,
            quantization=quantization,
        )
        write_companions(out / "merged", context.tokenizer, contract)
        measured["merged_nats"] = verify_merged(
            out / "merged", prompts, logits, device=context.device, dtype=context.dtype
        )
    monitor.log("export_verified", **measured)
    return measured


def choose_quantization(method: str) -> str:
    """How the base is held while an adapter of this method is trained and used."""
    return "nf4" if method == "qlora" else ""


def describe_base(context: JobContext, quantization: str) -> BaseModel:
    """What the published files say about the model they stand on."""
    model = context.job.spec.model
    return BaseModel(
        uri=model.uri,
        revision=model.revision,
        digest=context.sources.digests["model"],
        precision=quantization or context.precision,
        license=find_base_license(context.sources.model),
    )
