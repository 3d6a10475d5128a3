"""What a job runs on, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GIB = 2**30


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """Equal devices of one machine or pool.

    Attributes:
        memory_bytes: of one device; for a CPU, the machine's.
        peak_flops: of one device in its fastest precision here, per second.
        mfu: share of `peak_flops` that training reaches.
        price_per_hour: of one device, in whatever currency; 0 when unknown.
        num_devices: how many there are; a CPU counts as one.
        has_bf16: bf16 arithmetic in hardware.
        is_budget_constrained: whoever pays prefers the cheapest method to the best.
    """

    name: str
    device: Literal["cpu", "cuda"]
    memory_bytes: int
    peak_flops: float
    mfu: float
    price_per_hour: float = 0.0
    num_devices: int = 1
    has_bf16: bool = True
    is_budget_constrained: bool = False


# Per core and second. Measured: LoRA on Gemma 3 270M ran at 487 tokens/s on two cores in bf16
# (AVX-512/AMX) and 218 in fp32, at 4 x 100 M FLOPs a token without the embeddings.
_CPU_FLOPS_BF16 = 1.0e11
_CPU_FLOPS_FP32 = 4.4e10

# Dense bf16 FLOPs per second, from the vendors' data sheets. The first name found counts.
_GPU_PEAK_FLOPS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "4090": 165e12,
}
_GPU_MFU = 0.41  # NeMo Automodel, LoRA on Llama 3 8B on an H100, at 4N FLOPs a token
_UNKNOWN_GPU_PEAK_FLOPS = 100e12


def build_cpu_profile(
    memory_bytes: int = 16 * GIB, num_cores: int = 2, *, has_bf16: bool = False
) -> HardwareProfile:
    """A CPU machine; its FLOPs are what training was measured to reach, hence an MFU of 1."""
    flops = (_CPU_FLOPS_BF16 if has_bf16 else _CPU_FLOPS_FP32) * num_cores
    return HardwareProfile(
        name=f"CPU, {num_cores} cores",
        device="cpu",
        memory_bytes=memory_bytes,
        peak_flops=flops,
        mfu=1.0,
        has_bf16=has_bf16,
    )


def build_gpu_profile(
    name: str, memory_bytes: int, *, num_devices: int = 1, has_bf16: bool = True
) -> HardwareProfile:
    """A GPU by the name its driver gives, such as "NVIDIA H100 80GB HBM3"."""
    peaks = (flops for key, flops in _GPU_PEAK_FLOPS.items() if key in name)
    return HardwareProfile(
        name=name,
        device="cuda",
        memory_bytes=memory_bytes,
        peak_flops=next(peaks, _UNKNOWN_GPU_PEAK_FLOPS),
        mfu=_GPU_MFU,
        num_devices=num_devices,
        has_bf16=has_bf16,
    )


def compute_worker_memory(profile: HardwareProfile, num_workers: int) -> int:
    """Bytes each training process has: a GPU of its own, or a share of the CPU machine's."""
    return profile.memory_bytes // (num_workers if profile.device == "cpu" else 1)
