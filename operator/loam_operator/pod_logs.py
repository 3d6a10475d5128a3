"""Reads the logs of an attempt's pods while they are still there."""

from __future__ import annotations

import asyncio

from loam_operator.api import Api, ApiError
from loam_operator.log_lines import MOST_LINES
from loam_operator.observed import Observed, PodLog, PodView

_MOST_BYTES = 1024 * 1024
_MOST_SECONDS = 10.0  # a node that is lost does not answer, and a job must not wait for it


async def read_logs(api: Api, observed: Observed, attempt: int) -> tuple[PodLog, ...]:
    """What submitter, head and one worker wrote last; without those that cannot be read."""
    pods = choose_pods(observed.list_own_pods(attempt))
    namespace = observed.job.namespace
    found = await asyncio.gather(*(_read_log(api, namespace, pod) for pod in pods))
    return tuple(log for log in found if log is not None)


def choose_pods(pods: list[PodView]) -> list[PodView]:
    """One pod a role: of the workers one that failed, if any did."""
    chosen = {}
    for pod in sorted(pods, key=lambda one: one.phase == "Failed" or one.is_oom_killed):
        if pod.phase != "Pending":
            chosen[pod.role] = pod
    return list(chosen.values())


async def _read_log(api: Api, namespace: str, pod: PodView) -> PodLog | None:
    path = f"/api/v1/namespaces/{namespace}/pods/{pod.name}/log"
    try:
        async with asyncio.timeout(_MOST_SECONDS):
            text = await api.read_text(path, tailLines=str(MOST_LINES), limitBytes=str(_MOST_BYTES))
    except (ApiError, TimeoutError):
        return None
    return PodLog(pod.role, pod.name, text)
