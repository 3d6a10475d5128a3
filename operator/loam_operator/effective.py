"""A job as its profile makes it: the lower of two limits, and defaults where the job is silent."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from loam_api.finetunejob import FineTuneJobSpec
from loam_operator.observed import JobView
from loam_operator.profiles import Profile


def limit_deadline(spec: FineTuneJobSpec, profile: Profile | None) -> FineTuneJobSpec:
    """The spec with the profile's deadline, where the job has none or a later one."""
    most = profile.spec.limits.active_deadline_seconds if profile else None
    seconds = _find_lower(spec.active_deadline_seconds, most)
    return spec.model_copy(update={"active_deadline_seconds": seconds})


def apply_profile(job: JobView, profile: Profile) -> JobView:
    """The job that is run: what its pods and its runtime read."""
    spec: dict[str, Any] = copy.deepcopy(dict(job.spec))
    compute = spec.setdefault("compute", {})
    head, worker = profile.spec.pods.head, profile.spec.pods.worker
    for role, defaults in (
        ("head", {"cpu": head.cpu, "memory": head.memory}),
        ("worker", {"cpu": worker.cpu}),
    ):
        given = {name: value for name, value in defaults.items() if value is not None}
        compute[role] = {**given, **compute.get(role, {})}
    synthesis = spec.get("synthesis") or {}
    if synthesis.get("teacher", {}).get("kind") == "openai":
        _limit_budget(synthesis, profile)
    return replace(job, spec=spec)


def _limit_budget(synthesis: dict[str, Any], profile: Profile) -> None:
    limits = profile.spec.limits
    budget = synthesis.setdefault("budget", {})
    for name, most in (
        ("maxRequests", limits.teacher_requests),
        ("maxTokens", limits.teacher_tokens),
    ):
        if most is not None:
            budget[name] = _find_lower(budget.get(name, 0), most)


def _find_lower(asked: int, most: int | None) -> int:
    """0 asks for no limit."""
    if most is None:
        return asked
    return min(asked, most) if asked else most
