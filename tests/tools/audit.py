"""What the API server's audit log says of who wrote when."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Write:
    """One request that changed something.

    Attributes:
        received, answered: times of the API server's clock, which sort as text.
    """

    user: str
    verb: str
    resource: str
    name: str
    received: str
    answered: str


def read_writes(log: Path, namespace: str) -> list[Write]:
    """Those in a namespace that were carried out, in the order of their answers."""
    lines = log.read_text("utf-8").splitlines()
    entries = [json.loads(line) for line in lines if f'"{namespace}"' in line]
    found = [
        Write(
            entry["user"]["username"],
            entry["verb"],
            entry["objectRef"]["resource"],
            entry["objectRef"].get("name", ""),
            entry["requestReceivedTimestamp"],
            entry["stageTimestamp"],
        )
        for entry in entries
        if entry["objectRef"].get("namespace") == namespace
        and entry.get("responseStatus", {}).get("code", 500) < 300
    ]
    return sorted(found, key=lambda write: write.answered)


def list_intruders(writes: Iterable[Write]) -> list[Write]:
    """Writes of one that held the lease before, received after another had taken it."""
    holder, taken, seen, intruders = "", "", set(), []
    for write in writes:
        if write.resource == "leases":
            if write.user != holder:
                holder, taken = write.user, write.answered
                seen.add(holder)
        elif write.user in seen and write.user != holder and write.received > taken:
            intruders.append(write)
    return intruders


def count_holders(writes: Iterable[Write]) -> int:
    """How often the lease came into other hands."""
    users = [write.user for write in writes if write.resource == "leases"]
    return sum(one != next_one for one, next_one in pairwise(users))
