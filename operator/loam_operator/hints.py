"""Asks Kubernetes why an attempt does not get on: warnings about its objects, its queue's word.

These are read when they are needed, not watched: a cluster has far more events than jobs that wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loam_operator.api import Api
from loam_operator.event_reader import EventReader
from loam_operator.observed import Hint, Observed, RayJobView

_MOST_PODS = 2  # a worker group waits for one and the same thing
_WORKLOADS = "/apis/kueue.x-k8s.io/{}/namespaces/{}/workloads"
_WORKLOAD_VERSIONS = ("v1beta2", "v1beta1")

Raw = Mapping[str, Any]


async def read_hints(
    api: Api, events: EventReader, observed: Observed, ray_job: RayJobView
) -> tuple[Hint, ...]:
    """What is said of an attempt, the newest first."""
    namespace = observed.job.namespace
    if ray_job.is_held:
        return await _read_workloads(api, namespace, ray_job)
    silent = [
        pod.name
        for pod in observed.list_own_pods(ray_job.attempt)
        if pod.phase == "Pending" and not pod.waiting
    ]
    hints: list[Hint] = []
    for name in (ray_job.name, *silent[:_MOST_PODS]):
        hints += await events.read_warnings(namespace, name)
    return tuple(hints)


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
