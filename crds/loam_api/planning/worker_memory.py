"""Memory of a worker pod in a cluster, where the job does not say how much it shall have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loam_api.planning.facts import Facts
from loam_api.planning.generation import estimate_generation_memory
from loam_api.planning.memory import FITTING_SHARE
from loam_api.planning.plan import plan
from loam_api.planning.profile import GIB, build_cpu_profile

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJobSpec

# In each worker pod beside the training process' own tensors: its libraries, Ray's processes, and
# in one pod the pipeline, which has let go of the base model.
POD_OVERHEAD_BYTES = 3 * GIB

_MEMORY_TO_FILL = 8 * GIB  # larger micro-batches than fit in it gain a CPU nothing
_GPU_HOST_BYTES = 8 * GIB  # two processes with CUDA's libraries and pinned buffers
_MARGIN = 1.01 / FITTING_SHARE


def estimate_worker_memory(facts: Facts, spec: FineTuneJobSpec) -> int:
    """Bytes of host memory that a worker pod needs; 0 where the model is unknown.

    On a GPU the weights pass through the host once, on their way from the disk.
    """
    if not facts.model.is_known:
        return 0
    if spec.compute.worker.gpus:
        return facts.model.weight_bytes + _GPU_HOST_BYTES
    num_workers = spec.compute.workers.max
    planned = plan(facts, build_cpu_profile(_MEMORY_TO_FILL * num_workers), spec)
    if not planned.memory:
        return 0
    to_generate = estimate_generation_memory(
        facts.model, facts.data, spec.synthesis, planned.precision
    )
    return round(max(planned.memory.total, to_generate) * _MARGIN) + POD_OVERHEAD_BYTES
