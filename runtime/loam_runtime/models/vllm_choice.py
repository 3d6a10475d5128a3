"""Whether vLLM or transformers runs the base model that writes rows."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loam_runtime.errors import LoamError
from loam_runtime.models.pool import ReplicaLost
from loam_runtime.models.vllm_process import VllmProcess

# Sequences at once. What they begin with is computed once for all of them.
VLLM_BATCH = 64
# The interpreter of an environment that has vLLM; an image that has one sets it.
VARIABLE = "LOAM_VLLM_PYTHON"


@dataclass(frozen=True, slots=True)
class Engine:
    """Who computes.

    Attributes:
        reason: one sentence for the log.
        python: the interpreter that has vLLM, or empty for transformers.
    """

    reason: str
    python: str = ""

    @property
    def name(self) -> str:
        return "vllm" if self.python else "transformers"


def choose_engine(folder: Path, device: str) -> Engine:
    """VLLM where it is installed, is built for the device, and knows the model; else transformers.

    Args:
        folder: of the base model.
        device: "cpu" or "cuda".
    """
    python = os.environ.get(VARIABLE, "")
    if not python:
        return Engine(f"vLLM is not installed here: {VARIABLE} is not set.")
    if shutil.which(python) is None:
        return Engine(f"{VARIABLE} names {python}, which is not a program.")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in config:
        return Engine("The base model is quantized, which only transformers is used for.")
    try:
        return _judge(python, _probe(python), config, device)
    except (ReplicaLost, LoamError, OSError) as exc:
        return Engine(f"vLLM at {python} does not start: {exc}")


def _probe(python: str) -> dict[str, Any]:
    process = VllmProcess(python, num_threads=1)
    try:
        return process.ask("probe")
    finally:
        process.stop()


def _judge(python: str, found: dict[str, Any], config: dict[str, Any], device: str) -> Engine:
    version = found["version"]
    if found["device"] != device:
        built = found["device"] or "no device here"
        return Engine(f"vLLM {version} is for {built}, and the job computes on {device}.")
    unknown = set(config.get("architectures") or ["an unnamed one"]) - set(found["architectures"])
    if unknown:
        return Engine(f"vLLM {version} does not know the architecture {', '.join(unknown)}.")
    return Engine(f"vLLM {version} knows the model and computes on {device}.", python)
