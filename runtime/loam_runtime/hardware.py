"""What this machine is, read without loading torch, so that a plan answers at once."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from loam_api.planning.profile import HardwareProfile, build_cpu_profile, build_gpu_profile
from loam_api.planning.worker_memory import POD_OVERHEAD_BYTES

_MIB = 2**20
# Of the container's cgroup, version 2 and 1.
_LIMIT_FILES = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
_QUERY = "--query-gpu=name,memory.total,compute_cap"


def detect_hardware(device: str, num_pods: int = 0) -> HardwareProfile:
    """The profile of this machine's GPUs, or of its CPU.

    Args:
        device: "auto" takes the GPUs where there are any; "cpu" and "cuda" are taken at their word.
        num_pods: pods like this one that train together, beside what else runs in them; 0 for
            this machine alone, with all that it has.
    """
    gpus = _list_gpus() if device != "cpu" else []
    if not gpus:
        return _share_with_pipeline(_detect_cpu(), num_pods) if num_pods else _detect_cpu()
    name, memory, capability = (part.strip() for part in gpus[0].split(","))
    return build_gpu_profile(
        name, int(memory) * _MIB, num_devices=len(gpus), has_bf16=float(capability) >= 8.0
    )


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _share_with_pipeline(pod: HardwareProfile, num_pods: int) -> HardwareProfile:
    """What all pods have for training; see `planning.worker_memory`."""
    free = max(pod.memory_bytes - POD_OVERHEAD_BYTES, pod.memory_bytes // 4)
    return replace(pod, memory_bytes=free * num_pods)


def _detect_cpu() -> HardwareProfile:
    flags = set(_read_field(Path("/proc/cpuinfo"), "flags").split())
    return build_cpu_profile(
        read_memory_bytes(),
        count_cores(),
        has_bf16=bool(flags & _BF16_FLAGS),
    )


def read_memory_bytes() -> int:
    """Memory that this process may use: the machine's, or less where its container has a limit."""
    total_kib = _read_field(Path("/proc/meminfo"), "MemTotal").split()
    total = int(total_kib[0]) * 1024 if total_kib else 16 * 2**30
    limits = (path.read_text().strip() for path in _LIMIT_FILES if path.is_file())
    return min([total, *(int(limit) for limit in limits if limit.isdecimal())])


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
