"""How much memory a pod gets: what is asked for, and more after each kill, within the profile."""

from __future__ import annotations

from loam_api.finetunejob import FineTuneJobSpec
from loam_api.status import FineTuneJobStatus
from loam_operator.checking import check_spec
from loam_operator.decision import Launch
from loam_operator.effective import apply_profile
from loam_operator.history import build_launch
from loam_operator.observed import Observed, PodView, Role
from loam_operator.profiles import find_kept
from loam_operator.quantities import count_mib, multiply_memory

_HEAD_MEMORY = "4Gi"
_LEAST_WORKER_MEMORY = "4Gi"


def find_memory(role: Role, spec: FineTuneJobSpec, launch: Launch) -> str:
    """What a head or a worker is to get, before the profile's limit."""
    if role == "head":
        asked = spec.compute.head.memory or _HEAD_MEMORY
    else:
        asked = spec.compute.worker.memory or launch.worker_memory or _LEAST_WORKER_MEMORY
    return multiply_memory(asked, launch.memory_factor)


def describe_limit(observed: Observed, status: FineTuneJobStatus, killed: PodView) -> str:
    """Why there is no more memory for such a pod than the live attempt's had; "" where there is."""
    profile = find_kept(observed, status.profile)
    most = profile.spec.limits.memory_per_pod if profile else None
    if profile is None or most is None:
        return ""
    spec = check_spec(apply_profile(observed.job, profile))
    memory = find_memory(killed.role, spec, build_launch(status, status.attempts[-1]))
    if count_mib(memory) < count_mib(most):
        return ""
    return (
        f"It had the {most} that FineTuneProfile {profile.name} allows at most "
        "(limits.memoryPerPod)."
    )
