"""The operator's settings, from the environment that its chart writes."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

ProfileMode = Literal["ignored", "optional", "required"]


class SettingsError(Exception):
    """A setting is missing or wrong; the message says which."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the platform team decides, the same for all jobs.

    Attributes:
        image: of the runtime; every pod of a job runs it.
        pull_policy: Always, IfNotPresent or Never.
        pull_secrets: names of Secrets in the jobs' namespaces.
        ray_version: of the Ray in the image.
        namespaces: to watch; empty for all.
        namespace, pod: of the operator itself.
        port: of its metrics and probes.
        num_workers: jobs that are worked on at once.
        profiles: ignored: the operator may not read them; optional: a cluster without any has no
            rules; required: no job runs without one.
        kuberay_namespaces, kuberay_pods, monitoring_namespaces: labels of who may connect to a
            job's pods; none for any.
    """

    image: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    ray_version: str = "2.60.0"
    namespaces: tuple[str, ...] = ()
    namespace: str = "default"
    pod: str = "loam-operator"
    port: int = 8080
    num_workers: int = 32
    profiles: ProfileMode = "optional"
    kuberay_namespaces: Mapping[str, str] = field(default_factory=dict)
    kuberay_pods: Mapping[str, str] = field(default_factory=dict)
    monitoring_namespaces: Mapping[str, str] = field(default_factory=dict)


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings.

    Raises:
        SettingsError: one is missing or wrong.
    """
    image = environment.get("LOAM_RUNTIME_IMAGE", "")
    if not image:
        raise SettingsError("LOAM_RUNTIME_IMAGE is not set: give the image of the runtime.")
    try:
        port = int(environment.get("LOAM_PORT", "8080"))
        num_workers = int(environment.get("LOAM_WORKERS", "32"))
    except ValueError as exc:
        raise SettingsError(f"LOAM_PORT and LOAM_WORKERS must be whole numbers: {exc}.") from exc
    profiles = environment.get("LOAM_PROFILES", "optional")
    if profiles not in get_args(ProfileMode):
        raise SettingsError(f"LOAM_PROFILES must be one of {', '.join(get_args(ProfileMode))}.")
    return Settings(
        image=image,
        pull_policy=environment.get("LOAM_PULL_POLICY", "IfNotPresent"),
        pull_secrets=_split(environment.get("LOAM_PULL_SECRETS", "")),
        ray_version=environment.get("LOAM_RAY_VERSION", "2.60.0"),
        namespaces=_split(environment.get("LOAM_NAMESPACES", "")),
        namespace=environment.get("POD_NAMESPACE", "default"),
        pod=environment.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}",
        port=port,
        num_workers=num_workers,
        profiles=cast(ProfileMode, profiles),
        kuberay_namespaces=_split_labels(environment.get("LOAM_KUBERAY_NAMESPACES", "")),
        kuberay_pods=_split_labels(environment.get("LOAM_KUBERAY_PODS", "")),
        monitoring_namespaces=_split_labels(environment.get("LOAM_MONITORING_NAMESPACES", "")),
    )


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _split_labels(text: str) -> dict[str, str]:
    """ "a=b,c=d" as a map."""
    pairs = (part.partition("=") for part in _split(text))
    return {name: value for name, _, value in pairs}
