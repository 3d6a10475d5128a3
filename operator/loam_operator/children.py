"""The objects that a job's attempts share: manifest, progress, access rights."""

from __future__ import annotations

import json
from typing import Any

from loam_operator.checking import build_manifest
from loam_operator.decision import Launch
from loam_operator.names import (
    ATTEMPT_LABEL,
    JOB_LABEL,
    JOB_UID_LABEL,
    MANAGED_LABEL,
    MANAGED_VALUE,
    STEP_LABEL,
    name_access,
    name_manifest,
    name_progress,
)
from loam_operator.observed import JobView
from loam_operator.profiles import Profile

MANIFEST_KEY = "job.yaml"
PROFILE_KEY = "profile.json"

Manifest = dict[str, Any]


def build_metadata(job: JobView, name: str, launch: Launch | None = None) -> Manifest:
    """Name, labels and owner of a child: it goes when its job goes."""
    return {
        "name": name,
        "namespace": job.namespace,
        "labels": build_labels(job, launch),
        "ownerReferences": [
            {
                "apiVersion": "loam.dev/v1alpha1",
                "kind": "FineTuneJob",
                "name": job.name,
                "uid": job.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def find_account(job: JobView) -> str:
    """The ServiceAccount that the head runs as: the one that the job names, or its own."""
    named = job.spec.get("compute", {}).get("serviceAccountName", "")
    return str(named or name_access(job.name))


def build_labels(job: JobView, launch: Launch | None = None) -> dict[str, str]:
    """By which a child is found again."""
    labels = {MANAGED_LABEL: MANAGED_VALUE, JOB_LABEL: job.name, JOB_UID_LABEL: job.uid}
    if launch is not None:
        labels |= {STEP_LABEL: launch.step, ATTEMPT_LABEL: str(launch.attempt)}
    return labels


def build_manifest_map(job: JobView, profile: Profile) -> Manifest:
    """The manifest as the runtime reads it (JSON is YAML), and the rules that made it so."""
    data = {MANIFEST_KEY: json.dumps(build_manifest(job), indent=1)}
    if profile.name:
        data[PROFILE_KEY] = profile.copy
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(job, name_manifest(job.name)),
        "immutable": True,
        "data": data,
    }


def build_service_account(job: JobView) -> Manifest:
    """Who the head pod is; no pod gets its token but the one that asks for it."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": build_metadata(job, name_access(job.name)),
        "automountServiceAccountToken": False,
    }


def build_progress_map(job: JobView) -> Manifest:
    """Where the head pods say how far they are, each under its attempt's key."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(job, name_progress(job.name)),
    }


def build_role(job: JobView) -> Manifest:
    """The right to write that one ConfigMap, and nothing else."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": build_metadata(job, name_access(job.name)),
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["configmaps"],
                "resourceNames": [name_progress(job.name)],
                "verbs": ["patch"],
            }
        ],
    }


def build_role_binding(job: JobView) -> Manifest:
    """Gives the Role to the ServiceAccount that the head runs as."""
    name = name_access(job.name)
    account = {"kind": "ServiceAccount", "name": find_account(job), "namespace": job.namespace}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": build_metadata(job, name),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [account],
    }


def build_children(job: JobView, profile: Profile) -> list[Manifest]:
    """All but the RayJobs, in the order of creation."""
    return [
        build_manifest_map(job, profile),
        *([] if find_account(job) != name_access(job.name) else [build_service_account(job)]),
        build_role(job),
        build_role_binding(job),
        build_progress_map(job),
    ]
