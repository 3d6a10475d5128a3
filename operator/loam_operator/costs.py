"""What a job has used and cost so far, on GPUs and on teachers.

It is told with writes that are made anyway, and makes none of its own. GPUs count from the moment
that their pod has a node until the pod has ended; a pod that goes between two writes is counted up
to the first of them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from loam_api.status import FineTuneJobStatus, Usage
from loam_operator.observed import Observed
from loam_operator.profiles import find_kept
from loam_operator.status import change, format_time, parse_time, shorten

_AMOUNT = re.compile(r"([0-9]{1,12}\.[0-9]{2})(?: ([A-Z]{3}))?")
_WORD_LENGTH = 64


def tell_costs(observed: Observed, status: FineTuneJobStatus, now: datetime) -> FineTuneJobStatus:
    """The status with what was used until now, and its price."""
    usage = _count_gpu_seconds(observed, status.usage or Usage(), now)
    profile = find_kept(observed, status.profile)
    price = profile.spec.gpu_hour_price if profile else None
    currency = (profile.spec.currency if profile else None) or ""
    if price is not None and usage.gpu_seconds:
        gpu_cost = f"{usage.gpu_seconds / 3600 * price:.2f} {currency}".strip()
        usage = usage.model_copy(update={"gpu_cost": gpu_cost})
    if usage == Usage():
        return status
    cost = add_costs(usage.teacher_cost, usage.gpu_cost, currency)
    return change(status, usage=usage, cost=cost or status.cost)


def _count_gpu_seconds(observed: Observed, usage: Usage, now: datetime) -> Usage:
    """In whole seconds, as Kubernetes writes times: what is counted once is not counted again."""
    until = now.astimezone(UTC).replace(microsecond=0)
    counted = parse_time(usage.counted_until)
    pods = [pod for pod in observed.pods if pod.gpus and pod.job_uid == observed.job.uid]
    seconds = 0
    for pod in pods:
        if pod.node_since is not None and not pod.is_over:
            since = max(pod.node_since, counted) if counted else pod.node_since
            seconds += pod.gpus * max(0, int((until - since).total_seconds()))
    if not pods or (counted is not None and counted >= until):
        return usage
    return usage.model_copy(
        update={
            "gpu_seconds": usage.gpu_seconds + seconds,
            "counted_until": format_time(until),
        }
    )


def add_costs(teacher: str, gpus: str, currency: str) -> str:
    """Both in one amount; side by side where they are not known to be of one currency.

    Args:
        teacher: as the runtime tells it: without a unit where prices were given with the job or by
            its profile, which are in the profile's currency.
    """
    if not (teacher and gpus):
        return teacher or gpus
    parts = _AMOUNT.fullmatch(teacher), _AMOUNT.fullmatch(gpus)
    if not (parts[0] and parts[1]) or (parts[0][2] or currency) != currency:
        return shorten(f"{teacher} + {gpus}", _WORD_LENGTH)
    return f"{float(parts[0][1]) + float(parts[1][1]):.2f} {currency}".strip()
