"""The pods of an attempt: head, workers and submitter, all at the level `restricted`."""

from __future__ import annotations

from typing import Any

from loam_api.endpoints import EndpointRole, list_endpoints
from loam_api.finetunejob import FineTuneJobSpec
from loam_api.ports import METRICS_PORT, METRICS_PORT_NAME
from loam_operator.children import build_labels, find_account
from loam_operator.decision import Launch
from loam_operator.memory import find_memory
from loam_operator.names import (
    GPU_RESOURCE_ANNOTATION,
    ROLE_LABEL,
    name_manifest,
    name_progress,
)
from loam_operator.observed import JobView
from loam_operator.settings import Settings
from loam_operator.steps import FINISH, PREPARE

SECRETS_DIR = "/etc/loam/secrets"
TOKEN_SECONDS = 3600
GRACE_SECONDS = 120
DRAIN_DIR = "/tmp/loam-drain"
STOP_SECONDS = 100  # for the pipeline to save, of the grace

_TOKEN_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"
_S3_REQUIRED = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_S3_OPTIONAL = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_SESSION_TOKEN")
_ASKED: dict[str, tuple[EndpointRole, ...]] = {
    PREPARE: ("teacher", "judge", "answerJudge"),
    FINISH: ("answerJudge",),
}
# KubeRay names its own ports only where a head names none, and its Service is made of them.
_HEAD_PORTS = {"gcs-server": 6379, "dashboard": 8265, METRICS_PORT_NAME: METRICS_PORT}
# KubeRay submits when all pods are ready; its own probe looks for the first time after 10 s.
_READINESS = {
    "httpGet": {"path": "/api/healthz", "port": 52365},
    "initialDelaySeconds": 2,
    "periodSeconds": 2,
    "timeoutSeconds": 5,
    "failureThreshold": 10,
}

Pod = dict[str, Any]


def build_head_pod(job: JobView, spec: FineTuneJobSpec, launch: Launch, settings: Settings) -> Pod:
    """Works alone, or leads the workers; the only one with a token and the manifest."""
    cache = launch.profile.spec.teacher_cache
    environment = [
        *_build_environment(spec),
        {"name": "LOAM_STEP", "value": launch.step},
        {"name": "LOAM_ATTEMPT", "value": str(launch.attempt)},
        {"name": "LOAM_RUN_KEY", "value": launch.run_key},
        *([{"name": "LOAM_REVIEW", "value": launch.review}] if launch.review else []),
        *([{"name": "LOAM_TEACHER_CACHE", "value": cache}] if cache else []),
        {"name": "LOAM_JOB_UID", "value": job.uid},
        {"name": "LOAM_PROGRESS", "value": f"{job.namespace}/{name_progress(job.name)}"},
        {"name": "LOAM_MICRO_BATCH_DIVISOR", "value": str(launch.micro_batch_divisor)},
        {"name": "LOAM_SECRETS_DIR", "value": SECRETS_DIR},
        {"name": "LOAM_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
    ]
    volumes = {
        "job": ({"configMap": {"name": name_manifest(job.name)}}, "/etc/loam/job"),
        "token": (_build_token_volume(), _TOKEN_DIR),
        **_build_secret_volumes(spec, launch.step),
    }
    memory = find_memory("head", spec, launch)
    resources = _build_resources(spec.compute.head.cpu or "1", memory)
    pod = _build_pod(job, launch, settings, "head", resources, environment, volumes)
    pod["spec"]["serviceAccountName"] = find_account(job)
    pod["spec"]["containers"][0]["ports"] = [
        {"name": name, "containerPort": port} for name, port in _HEAD_PORTS.items()
    ]
    return pod


def build_worker_pod(
    job: JobView, spec: FineTuneJobSpec, launch: Launch, settings: Settings
) -> Pod:
    """Runs one training process; reaches the model and the run's storage, nothing else."""
    worker = spec.compute.worker
    memory = find_memory("worker", spec, launch)
    resources = _build_resources(worker.cpu or "1", memory)
    pod = _build_pod(job, launch, settings, "worker", resources, _build_environment(spec), {})
    if worker.gpus:
        _add_gpus(pod, launch.profile.spec.pods.worker.gpu_resource, worker.gpus)
    if spec.compute.service_account_name:
        pod["spec"]["serviceAccountName"] = spec.compute.service_account_name
    return pod


def build_submitter_pod(job: JobView, launch: Launch, settings: Settings) -> Pod:
    """Runs `ray job submit` and follows the log."""
    resources = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
    return _build_pod(job, launch, settings, "submitter", resources, [], {})


def _build_pod(
    job: JobView,
    launch: Launch,
    settings: Settings,
    role: str,
    resources: dict[str, Any],
    environment: list[dict[str, Any]],
    volumes: dict[str, tuple[dict[str, Any], str]],
) -> Pod:
    volumes = {
        "tmp": ({"emptyDir": {}}, "/tmp"),
        "cache": ({"emptyDir": {}}, "/var/cache/loam"),
        "shm": ({"emptyDir": {"medium": "Memory", "sizeLimit": "512Mi"}}, "/dev/shm"),
        **volumes,
    }
    container = {
        "name": "ray-job-submitter" if role == "submitter" else f"ray-{role}",
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "resources": resources,
        "env": [
            {"name": "HOME", "value": "/tmp"},
            {"name": "USER", "value": "loam"},  # libraries ask, and the image's number has no name
            {"name": "LOAM_CACHE", "value": "/var/cache/loam"},
            {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
            # Ray would kill the training before the kernel does, and again after each restart;
            # the kernel's word is in the pod's status, and the next attempt gets more memory.
            {"name": "RAY_memory_monitor_refresh_ms", "value": "0"},
            # What measures a model on a worker sees its GPU without reserving it.
            {"name": "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "value": "0"},
            # Else each pod stays for 30 s after its end, with its GPU, for users of Ray Serve.
            {"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": "0"},
            # Where a pod that goes asks its processes to save: loam_runtime.training.drain.
            {"name": "LOAM_DRAIN_DIR", "value": DRAIN_DIR},
            # Ray kills a job that is stopped after 3 s, in which no checkpoint is saved.
            {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(STOP_SECONDS)},
            *environment,
        ],
        "volumeMounts": [
            {"name": name, "mountPath": path, **({"readOnly": True} if _is_input(name) else {})}
            for name, (_, path) in volumes.items()
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if role != "submitter":
        hook = {"exec": {"command": ["python", "-m", "loam_runtime.training.drain"]}}
        container["lifecycle"] = {"preStop": hook}
        container["readinessProbe"] = _READINESS
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10 if role == "submitter" else GRACE_SECONDS,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": name, **source} for name, (source, _) in volumes.items()],
    }
    if settings.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in settings.pull_secrets]
    return {"metadata": {"labels": {**build_labels(job, launch), ROLE_LABEL: role}}, "spec": spec}


def _is_input(name: str) -> bool:
    return name not in ("tmp", "cache", "shm")


def _build_resources(cpu: str, memory: str) -> dict[str, Any]:
    """Memory is held as reserved; CPUs that others leave free may be used."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}


def _add_gpus(pod: Pod, resource: str, count: int) -> None:
    """The annotation tells which of the pod's resources are GPUs: their names do not."""
    (container,) = pod["spec"]["containers"]
    for amounts in container["resources"].values():
        amounts[resource] = str(count)
    pod["metadata"]["annotations"] = {GPU_RESOURCE_ANNOTATION: resource}


def _build_environment(spec: FineTuneJobSpec) -> list[dict[str, Any]]:
    """Storage credentials, by reference: their values never pass through the operator."""
    environment = []
    if spec.output.secret_ref is not None:
        secret = spec.output.secret_ref.name
        environment += [_refer(secret, key) for key in _S3_REQUIRED]
        environment += [_refer(secret, key, optional=True) for key in _S3_OPTIONAL]
    if spec.model.secret_ref is not None:
        environment.append(_refer(spec.model.secret_ref.name, "HF_TOKEN"))
    return environment


def _refer(secret: str, key: str, *, optional: bool = False) -> dict[str, Any]:
    reference: dict[str, Any] = {"name": secret, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": key, "valueFrom": {"secretKeyRef": reference}}


def _build_secret_volumes(
    spec: FineTuneJobSpec, step: str
) -> dict[str, tuple[dict[str, Any], str]]:
    """The keys of those whom a step asks as files: of each Secret those keys alone.

    `prepare` asks teacher and judge, and sees whether everybody answers, before a GPU is held;
    `finish` asks who judges answers. What trains gets no key.
    """
    roles = _ASKED.get(step, ())
    keys: dict[str, set[str]] = {}
    for endpoint in list_endpoints(spec):
        reference = endpoint.openai.api_key_secret_ref
        if reference is not None and endpoint.role in roles:
            keys.setdefault(reference.name, set()).add(reference.key)
    return {
        f"keys-{number}": (_build_secret_source(secret, names), f"{SECRETS_DIR}/{secret}")
        for number, (secret, names) in enumerate(keys.items(), start=1)
    }


def _build_secret_source(secret: str, keys: set[str]) -> dict[str, Any]:
    items = [{"key": key, "path": key} for key in sorted(keys)]
    return {"secret": {"secretName": secret, "items": items, "defaultMode": 0o444}}


def _build_token_volume() -> dict[str, Any]:
    """The token of the job's ServiceAccount, for an hour, renewed by the kubelet."""
    return {
        "projected": {
            "defaultMode": 0o444,
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
                {
                    "configMap": {
                        "name": "kube-root-ca.crt",
                        "items": [{"key": "ca.crt", "path": "ca.crt"}],
                    }
                },
            ],
        }
    }
