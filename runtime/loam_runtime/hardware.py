"""What this machine is, read without loading torch, so that a plan answers at once."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from loam_api.planning.profile import HardwareProfile, build_cpu_profile, build_gpu_profile

_MIB = 2**20
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
_QUERY = "--query-gpu=name,memory.total,compute_cap"


def detect_hardware(device: str) -> HardwareProfile:
    """The profile of this machine's GPUs, or of its CPU.

    Args:
        device: "auto" takes the GPUs where there are any; "cpu" and "cuda" are taken at their word.
    """
    gpus = _list_gpus() if device != "cpu" else []
    if not gpus:
        return _detect_cpu()
    name, memory, capability = (part.strip() for part in gpus[0].split(","))
    return build_gpu_profile(
        name, int(memory) * _MIB, num_devices=len(gpus), has_bf16=float(capability) >= 8.0
    )


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _detect_cpu() -> HardwareProfile:
    flags = set(_read_field(Path("/proc/cpuinfo"), "flags").split())
    memory_kib = _read_field(Path("/proc/meminfo"), "MemTotal").split()
    return build_cpu_profile(
        int(memory_kib[0]) * 1024 if memory_kib else 16 * 2**30,
        count_cores(),
        has_bf16=bool(flags & _BF16_FLAGS),
    )


def _read_field(path: Path, name: str) -> str:
    """The value of the first line `name: value` of a file of /proc, "" where there is none."""
    if not path.is_file():
        return ""
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _list_gpus() -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", _QUERY, "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return answer.stdout.strip().splitlines() if answer.returncode == 0 else []
