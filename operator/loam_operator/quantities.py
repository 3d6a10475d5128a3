"""Amounts of memory in Kubernetes' notation."""

from __future__ import annotations

import re
from math import ceil

_UNITS = {"Mi": 1, "Gi": 1024, "Ti": 1024 * 1024}
_MIB = 2**20


def format_memory(num_bytes: int) -> str:
    """Bytes, rounded up: 5 GB as "4769Mi"."""
    return f"{ceil(num_bytes / _MIB)}Mi"


def multiply_memory(memory: str, factor: float) -> str:
    """ "4Gi" times 1.5 as "6144Mi"; as it was for a factor of 1."""
    if factor == 1:
        return memory
    return f"{ceil(count_mib(memory) * factor)}Mi"


def count_mib(memory: str) -> int:
    """Mebibytes: "4Gi" is 4096."""
    number, unit = re.fullmatch(r"(\d+)(\w+)", memory).groups()  # type: ignore[union-attr]
    return int(number) * _UNITS[unit]
