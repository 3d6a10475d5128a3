"""Asks Kubernetes why an attempt does not get on: warnings about its objects, its queue's word.

These are read when they are needed, not watched: a cluster has far more events than jobs that wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loam_operator.api import Api
from loam_operator.observed import Hint, Observed, RayJobView
from loam_operator.status import parse_time

_MOST_PODS = 2  # a worker group waits for one and the same thing
_MOST_EVENTS = 20
_WORKLOADS = "/apis/kueue.x-k8s.io/{}/namespaces/{}/workloads"
_WORKLOAD_VERSIONS = ("v1beta2", "v1beta1")

Raw = Mapping[str, Any]


async def read_hints(api: Api, observed: Observed, ray_job: RayJobView) -> tuple[Hint, ...]:
    """What is said of an attempt, the newest first."""
    namespace = observed.job.namespace
    if ray_job.is_held:
        return await _read_workloads(api, namespace, ray_job)
    silent = [
        pod.name
        for pod in observed.pods
        if pod.attempt == ray_job.attempt and pod.phase == "Pending" and not pod.waiting
    ]
    hints: list[Hint] = []
    for name in (ray_job.name, *silent[:_MOST_PODS]):
        hints += await _read_warnings(api, namespace, name)
    return tuple(hints)


async def _read_warnings(api: Api, namespace: str, name: str) -> list[Hint]:
    answer = await api.get(
        f"/api/v1/namespaces/{namespace}/events",
        fieldSelector=f"involvedObject.name={name},type=Warning",
    )
    events = sorted(answer.get("items") or [], key=_read_time, reverse=True)
    return [view_event(event) for event in events[:_MOST_EVENTS]]


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


async def _read_workloads(api: Api, namespace: str, ray_job: RayJobView) -> tuple[Hint, ...]:
    selector = f"kueue.x-k8s.io/job-uid={ray_job.uid}"
    for version in _WORKLOAD_VERSIONS:
        answer = await api.find(_WORKLOADS.format(version, namespace), labelSelector=selector)
        if answer is not None:
            hints = (view_workload(raw) for raw in answer.get("items") or [])
            return tuple(hint for hint in hints if hint is not None)
    return ()


def view_workload(raw: Raw) -> Hint | None:
    """A Workload of Kueue that has no quota yet."""
    for condition in (raw.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "QuotaReserved" and condition.get("status") == "False":
            return Hint(
                f"Workload {raw['metadata']['name']}",
                str(condition.get("reason", "")),
                str(condition.get("message", ""))[:1024],
            )
    return None
