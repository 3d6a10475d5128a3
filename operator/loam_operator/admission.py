"""What a job asks for against what its FineTuneProfile allows: every excess, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from loam_api.endpoints import list_endpoints
from loam_api.finetunejob import Budget, FineTuneJobSpec, OpenAITeacher
from loam_api.problems import show_value
from loam_operator.addresses import find_inner, is_under, names_host
from loam_operator.names import PRIORITY_LABELS, QUEUE_NAME_LABELS
from loam_operator.pricing import is_priced
from loam_operator.profiles import Profile
from loam_operator.quantities import count_mib

_MOST_SHOWN = 5


def list_excesses(
    spec: FineTuneJobSpec, labels: Mapping[str, str], profile: Profile, *, has_started: bool
) -> list[str]:
    """Every field that asks for more than is allowed, with its value and the limit.

    Args:
        labels: those of the job that a queue reads.
        has_started: what may be raised while a job runs was judged at its start; since then the
            lower of job and profile counts.
    """
    found = [
        *_check_addresses(spec, profile),
        *_check_names(spec, labels, profile),
        *_check_sizes(spec, profile),
    ]
    return found if has_started else [*found, *_check_raisable(spec, profile)]


def _check_addresses(spec: FineTuneJobSpec, profile: Profile) -> Iterator[str]:
    allowed = profile.spec.allow
    for field, address, kind, prefixes in (
        ("spec.model.uri", spec.model.uri, "models", allowed.models),
        ("spec.output.uri", spec.output.uri, "outputs", allowed.outputs),
    ):
        if prefixes is not None and not any(is_under(address, one) for one in prefixes):
            yield _say_unlisted(field, address, kind, prefixes, profile)
    for field, endpoint in _list_endpoints(spec):
        yield from _check_endpoint(f"{field}.baseURL", endpoint.base_url, profile)


def _list_endpoints(spec: FineTuneJobSpec) -> Iterator[tuple[str, OpenAITeacher]]:
    for endpoint in list_endpoints(spec):
        yield f"spec.{endpoint.field}", endpoint.openai


def _check_endpoint(field: str, url: str, profile: Profile) -> Iterator[str]:
    prefixes = profile.spec.allow.teachers
    over = [one for one in prefixes or [] if is_under(url, one)]
    inner = find_inner(url)
    if inner and not any(names_host(one) for one in over):
        yield (
            f"{field}: {_show(url)} {inner}: such a teacher must be listed with its host in "
            f"allow.teachers of {_name(profile)}."
        )
    elif prefixes is not None and not over:
        yield _say_unlisted(field, url, "teachers", prefixes, profile)


def _check_names(
    spec: FineTuneJobSpec, labels: Mapping[str, str], profile: Profile
) -> Iterator[str]:
    allowed = profile.spec.allow
    account = spec.compute.service_account_name
    queues = [(f"metadata.labels[{name}]", labels.get(name, "")) for name in QUEUE_NAME_LABELS]
    priorities = [(f"metadata.labels[{name}]", labels.get(name, "")) for name in PRIORITY_LABELS]
    for kind, names, given in (
        ("secrets", allowed.secrets, list(_list_secrets(spec))),
        (
            "serviceAccounts",
            allowed.service_accounts,
            [("spec.compute.serviceAccountName", account)],
        ),
        ("queues", allowed.queues, queues),
        ("priorities", allowed.priorities, priorities),
    ):
        for field, value in given:
            if names is not None and value and value not in names:
                yield _say_unlisted(field, value, kind, names, profile)
    if allowed.queues and not any(value for _, value in queues):
        yield (
            f"metadata.labels[{QUEUE_NAME_LABELS[0]}]: is not given, but {_name(profile)} wants "
            f"one of {_join(allowed.queues)} (allow.queues)."
        )


def _list_secrets(spec: FineTuneJobSpec) -> Iterator[tuple[str, str]]:
    if spec.model.secret_ref is not None:
        yield "spec.model.secretRef.name", spec.model.secret_ref.name
    if spec.output.secret_ref is not None:
        yield "spec.output.secretRef.name", spec.output.secret_ref.name
    for field, endpoint in _list_endpoints(spec):
        if endpoint.api_key_secret_ref is not None:
            yield f"{field}.apiKeySecretRef.name", endpoint.api_key_secret_ref.name


def _check_sizes(spec: FineTuneJobSpec, profile: Profile) -> Iterator[str]:
    limits, compute = profile.spec.limits, spec.compute
    gpus = compute.workers.max * compute.worker.gpus
    if limits.workers is not None and compute.workers.max > limits.workers:
        yield _say_more(
            "spec.compute.workers.max", compute.workers.max, "workers", limits.workers, profile
        )
    if limits.gpus is not None and gpus > limits.gpus:
        of = f"{gpus} ({compute.workers.max} workers)"
        yield _say_more("spec.compute.worker.gpus", of, "gpus", limits.gpus, profile)
    most = limits.memory_per_pod
    for field, memory in (("head", compute.head.memory), ("worker", compute.worker.memory)):
        if most is not None and memory is not None and count_mib(memory) > count_mib(most):
            path = f"spec.compute.{field}.memory"
            yield _say_more(path, memory, "memoryPerPod", most, profile)


def _check_raisable(spec: FineTuneJobSpec, profile: Profile) -> Iterator[str]:
    limits = profile.spec.limits
    seconds = "activeDeadlineSeconds"
    asked = [(seconds, spec.active_deadline_seconds, seconds, limits.active_deadline_seconds)]
    for field, budget in _list_budgets(spec):
        asked += [
            (
                f"{field}.maxRequests",
                budget.max_requests,
                "teacherRequests",
                limits.teacher_requests,
            ),
            (f"{field}.maxTokens", budget.max_tokens, "teacherTokens", limits.teacher_tokens),
        ]
    for path, value, name, limit in asked:
        if limit is not None and value > limit:
            yield _say_more(f"spec.{path}", value, name, limit, profile)
    yield from _check_room(spec, profile)
    yield from _check_cost(spec, profile)


def _check_room(spec: FineTuneJobSpec, profile: Profile) -> Iterator[str]:
    """A budget under the most tokens of one answer allows no request at all."""
    most, asked = profile.spec.limits.teacher_tokens, {}
    if spec.synthesis is not None and spec.synthesis.teacher.kind == "openai":
        asked["synthesis.sampling.maxTokens"] = spec.synthesis.sampling.max_tokens
    if spec.evaluation.judge is not None:
        asked["evaluation.judge.maxTokens"] = spec.evaluation.judge.max_tokens
    for field, tokens in asked.items():
        if most is not None and tokens > most:
            yield _say_more(f"spec.{field}", tokens, "teacherTokens", most, profile)


def _list_budgets(spec: FineTuneJobSpec) -> Iterator[tuple[str, Budget]]:
    """The budgets of what is asked over the network, by their fields; the base model has none."""
    if spec.synthesis is not None and spec.synthesis.teacher.kind == "openai":
        yield "synthesis.budget", spec.synthesis.budget
    if spec.evaluation.judge is not None:
        yield "evaluation.judge.budget", spec.evaluation.judge.budget


def _check_cost(spec: FineTuneJobSpec, profile: Profile) -> Iterator[str]:
    most = profile.spec.limits.teacher_cost
    if most is None:
        return
    for field, budget in _list_budgets(spec):
        if budget.max_cost > most:
            path = f"spec.{field}.maxCost"
            yield _say_more(path, f"{budget.max_cost:g}", "teacherCost", f"{most:g}", profile)
    for field, endpoint in _list_endpoints(spec):
        if not is_priced(endpoint.base_url, endpoint.model, profile):
            yield (
                f"{field}.model: {_show(endpoint.model)} has no price in teacherPrices of "
                f"{_name(profile)}, and without one its limits.teacherCost cannot be kept."
            )


def _say_unlisted(field: str, value: str, kind: str, listed: list[str], profile: Profile) -> str:
    wanted = f"one of {_join(listed)}" if listed else "none"
    return f"{field}: {_show(value)} is not allowed by {_name(profile)}: {wanted} (allow.{kind})."


def _say_more(field: str, value: Any, limit_name: str, limit: Any, profile: Profile) -> str:
    return (
        f"{field}: {value} is more than the {limit} that {_name(profile)} allows "
        f"(limits.{limit_name})."
    )


def _name(profile: Profile) -> str:
    return f"FineTuneProfile {profile.name}" if profile.name else "a FineTuneProfile"


def _show(value: str) -> str:
    return show_value("", value)


def _join(values: list[str]) -> str:
    shown = ", ".join(values[:_MOST_SHOWN])
    return f"{shown}, …" if len(values) > _MOST_SHOWN else shown
