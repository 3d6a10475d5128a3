"""Writes Kubernetes events about jobs: beside the passes, at its own pace, and never for sure."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from loam_operator.api import Api, ApiError
from loam_operator.news import News, find_news
from loam_operator.observed import JobView
from loam_operator.status import format_time

_MOST_WAITING = 2000
_COMPONENT = "loam-operator"

logger = logging.getLogger(__name__)


class EventWriter:
    """Tells of each write of a status once; what is said again raises a count.

    Events are no part of a job's truth: where the API server refuses one or there are too many,
    they are lost, and no pass over a job waits for them.

    Args:
        identity: of the pod.
    """

    def __init__(self, api: Api, identity: str, now: Callable[[], datetime]) -> None:
        self._api = api
        self._identity = identity
        self._now = now
        self._waiting: asyncio.Queue[tuple[JobView, News]] = asyncio.Queue(_MOST_WAITING)

    def tell(self, before: JobView, after: JobView) -> None:
        """Take note of a write of a job's status."""
        news = find_news(before, after)
        if news is None:
            return
        try:
            self._waiting.put_nowait((after, news))
        except asyncio.QueueFull:
            logger.warning("%s/%s: no event for %s", after.namespace, after.name, news.reason)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            job, news = await self._waiting.get()
            try:
                await self._write(job, news)
            except ApiError as error:
                logger.warning("%s/%s: no event: %s", job.namespace, job.name, error)

    async def _write(self, job: JobView, news: News) -> None:
        path = f"/api/v1/namespaces/{job.namespace}/events"
        event = build_event(job, news, self._identity, self._now())
        try:
            await self._api.create(path, event)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            place = f"{path}/{event['metadata']['name']}"
            held = await self._api.get(place)
            count = int(held.get("count") or 1) + 1
            await self._api.patch(place, {"count": count, "lastTimestamp": event["lastTimestamp"]})


def build_event(job: JobView, news: News, identity: str, now: datetime) -> dict[str, Any]:
    """An event of core/v1, named by what it says: the same again is the same object."""
    text = "\n".join((job.uid, news.kind, news.reason, news.message))
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{job.name}.{hashlib.sha256(text.encode()).hexdigest()[:16]}",
            "namespace": job.namespace,
        },
        "involvedObject": {
            "apiVersion": "loam.dev/v1alpha1",
            "kind": "FineTuneJob",
            "name": job.name,
            "namespace": job.namespace,
            "uid": job.uid,
            "resourceVersion": job.resource_version,
        },
        "type": news.kind,
        "reason": news.reason,
        "message": news.message[:1024],
        "firstTimestamp": format_time(now),
        "lastTimestamp": format_time(now),
        "count": 1,
        "source": {"component": _COMPONENT},
        "reportingComponent": _COMPONENT,
        "reportingInstance": identity,
    }
