"""Warnings about objects, read for a whole namespace at a time and shared by its jobs.

The API server has no index of events by object: to find those of one, it goes through all of the
namespace. A thousand jobs that wait, asking each for its own, would keep it busy with nothing else.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loam_operator.api import Api
from loam_operator.observed import Hint
from loam_operator.status import parse_time

SHARED_SECONDS = 5.0
_MOST_EVENTS = 5000
_MOST_OF_ONE = 20

Raw = Mapping[str, Any]


@dataclass(slots=True)
class _Namespace:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    read_at: float | None = None
    hints: dict[str, list[Hint]] = field(default_factory=dict)


class EventReader:
    """Reads a namespace's warnings at most once in a few seconds, however many ask.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, api: Api, clock: Callable[[], float]) -> None:
        self._api = api
        self._clock = clock
        self._namespaces: dict[str, _Namespace] = defaultdict(_Namespace)

    async def read_warnings(self, namespace: str, name: str) -> list[Hint]:
        """What is said of the objects of this name, the newest first."""
        held = self._namespaces[namespace]
        async with held.lock:
            if held.read_at is None or self._clock() - held.read_at >= SHARED_SECONDS:
                held.hints = sort_warnings(await self._read_all(namespace))
                held.read_at = self._clock()
        return held.hints.get(name, [])

    async def _read_all(self, namespace: str) -> list[Raw]:
        events: list[Raw] = []
        path = f"/api/v1/namespaces/{namespace}/events"
        async for event in self._api.list(path, fieldSelector="type=Warning"):
            events.append(event)
            if len(events) == _MOST_EVENTS:
                break
        return events


def sort_warnings(events: list[Raw]) -> dict[str, list[Hint]]:
    """By the name of the object that they are about, the newest first."""
    hints: dict[str, list[Hint]] = {}
    for event in sorted(events, key=_read_time, reverse=True):
        of_one = hints.setdefault(event["involvedObject"].get("name", ""), [])
        if len(of_one) < _MOST_OF_ONE:
            of_one.append(view_event(event))
    return hints


def view_event(raw: Raw) -> Hint:
    """An event of core/v1."""
    about = raw["involvedObject"]
    return Hint(
        f"{about.get('kind', '')} {about.get('name', '')}",
        str(raw.get("reason", "")),
        str(raw.get("message", ""))[:1024],
    )


def _read_time(raw: Raw) -> float:
    series = raw.get("series") or {}
    times = (
        raw.get("lastTimestamp"),
        series.get("lastObservedTime"),
        raw.get("eventTime"),
        raw["metadata"].get("creationTimestamp"),
    )
    return max(moment.timestamp() for moment in map(parse_time, times) if moment)
