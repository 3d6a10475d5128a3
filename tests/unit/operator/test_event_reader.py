"""Warnings are read once for all jobs of a namespace, whole, and never much too late."""

from __future__ import annotations

import asyncio
from typing import Any

from loam_operator.api import Api
from loam_operator.event_reader import SHARED_SECONDS, EventReader


class EventApi(Api):
    """An API server's events of one namespace, in pages of one."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events = list(events)
        self.num_requests = 0

    async def request(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        query = dict(request["query"])
        assert (path, query["fieldSelector"]) == ("/api/v1/namespaces/team/events", "type=Warning")
        self.num_requests += 1
        await asyncio.sleep(0)  # others may ask meanwhile
        page = int(query.get("continue") or 0)
        following = str(page + 1) if page + 1 < len(self.events) else ""
        return {"items": self.events[page : page + 1], "metadata": {"continue": following}}


def build_event(name: str, reason: str, second: int) -> dict[str, Any]:
    return {
        "metadata": {"creationTimestamp": f"2026-01-01T00:00:{second:02}Z"},
        "involvedObject": {"kind": "Pod", "name": name},
        "reason": reason,
        "message": "words",
    }


def test_jobs_share_one_reading():
    """Each for itself, a thousand jobs that wait would ask a hundred times a second, and each
    answer goes through all events of the namespace."""
    api = EventApi(
        build_event("a", "Old", 1), build_event("b", "Other", 2), build_event("a", "New", 3)
    )
    now = [100.0]

    async def ask() -> list[str]:
        reader = EventReader(api, lambda: now[0])
        await asyncio.gather(*(reader.read_warnings("team", f"job-{index}") for index in range(50)))
        assert api.num_requests == 3  # its pages
        reasons = [hint.reason for hint in await reader.read_warnings("team", "a")]
        assert api.num_requests == 3
        api.events = [build_event("a", "Newest", 9)]
        now[0] += SHARED_SECONDS
        return reasons + [hint.reason for hint in await reader.read_warnings("team", "a")]

    assert asyncio.run(ask()) == ["New", "Old", "Newest"]
