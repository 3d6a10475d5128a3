"""A job as its profile makes it: the lower of two limits, and defaults where the job is silent."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from loam_api.finetunejob import FineTuneJobSpec
from loam_operator.observed import JobView
from loam_operator.pricing import find_stated, may_price_itself
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
    for payer, endpoints in _list_payers(spec):
        _set_prices(endpoints, profile)
        _limit_budget(payer, endpoints, profile)
    return replace(job, spec=spec)


def _list_payers(spec: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The blocks of a spec that have a budget, each with the endpoints that are paid from it."""
    synthesis = spec.get("synthesis") or {}
    if synthesis.get("teacher", {}).get("kind") == "openai":
        judge = synthesis.get("judge") or {}
        yield synthesis, [synthesis["teacher"]["openai"], *([judge["openai"]] if judge else [])]
    judge = (spec.get("evaluation") or {}).get("judge") or {}
    if judge:
        yield judge, [judge["openai"]]


def _set_prices(endpoints: list[dict[str, Any]], profile: Profile) -> None:
    """The profile's prices; without them, and under a limit, none: then the list prices count."""
    for endpoint in endpoints:
        stated = find_stated(endpoint["baseURL"], endpoint["model"], profile)
        if stated is not None:
            endpoint["prices"] = {"prompt": stated.prompt, "completion": stated.completion}
        elif not may_price_itself(profile):
            endpoint.pop("prices", None)


def _is_free(endpoint: dict[str, Any]) -> bool:
    prices = endpoint.get("prices")
    return prices is not None and not prices["prompt"] and not prices["completion"]


def _limit_budget(payer: dict[str, Any], endpoints: list[dict[str, Any]], profile: Profile) -> None:
    limits = profile.spec.limits
    budget = payer.setdefault("budget", {})
    for name, most in (
        ("maxRequests", limits.teacher_requests),
        ("maxTokens", limits.teacher_tokens),
        ("maxCost", limits.teacher_cost),
    ):
        if most is not None:
            budget[name] = _find_lower(budget.get(name, 0), most)
    if all(_is_free(one) for one in endpoints):
        budget.pop("maxCost", None)  # for what is free there is no budget in money


def _find_lower(asked: float, most: float | None) -> float:
    """0 asks for no limit."""
    if most is None:
        return asked
    return min(asked, most) if asked else most
