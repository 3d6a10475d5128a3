"""The RayJob of one attempt: created once, never changed, never retried by KubeRay."""

from __future__ import annotations

import json
from typing import Any

from loam_api.finetunejob import FineTuneJobSpec
from loam_operator.children import build_metadata
from loam_operator.decision import Launch
from loam_operator.names import name_attempt
from loam_operator.observed import JobView
from loam_operator.pods import build_head_pod, build_submitter_pod, build_worker_pod
from loam_operator.settings import Settings
from loam_operator.steps import count_workers

ENTRYPOINT = "loam step /etc/loam/job/job.yaml"
LOG_SECONDS = 10  # for which pods outlive the job's end, so that their last lines can be kept
PIPELINE_RESOURCE = "loam-pipeline"
_OBJECT_STORE_BYTES = str(128 * 2**20)  # only events pass through it


def build_ray_job(
    job: JobView, spec: FineTuneJobSpec, launch: Launch, settings: Settings
) -> dict[str, Any]:
    """The manifest.

    KubeRay's own retries are off everywhere, because they would run a failed attempt again
    whatever it failed of: its `backoffLimit`, its submitter's, and the head pod's restarts.
    """
    metadata = build_metadata(job, name_attempt(job.name, launch.step, launch.attempt), launch)
    # A queue reads its labels here; KubeRay hands all labels on to the pods.
    metadata["labels"] = {**job.queue_labels, **metadata["labels"]}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata,
        "spec": {
            "entrypoint": ENTRYPOINT,
            "submissionMode": "K8sJobMode",
            "backoffLimit": 0,
            "submitterConfig": {"backoffLimit": 0},
            "submitterPodTemplate": build_submitter_pod(job, launch, settings),
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": LOG_SECONDS,
            "rayClusterSpec": _build_cluster(job, spec, launch, settings),
        },
    }


def _build_cluster(
    job: JobView, spec: FineTuneJobSpec, launch: Launch, settings: Settings
) -> dict[str, Any]:
    num_workers = count_workers(launch.step, spec)
    workers = [_build_workers(job, spec, launch, settings, num_workers)] if num_workers else []
    return {
        "rayVersion": settings.ray_version,
        # Whoever reaches an open dashboard can run what they like in the cluster.
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": False,
        "headGroupSpec": {
            # No CPU and no GPU for Ray: training belongs on the workers.
            "rayStartParams": {
                "dashboard-host": "0.0.0.0",
                "num-cpus": "0",
                "num-gpus": "0",
                "object-store-memory": _OBJECT_STORE_BYTES,
            },
            "template": build_head_pod(job, spec, launch, settings),
        },
        "workerGroupSpecs": workers,
    }


def _build_workers(
    job: JobView, spec: FineTuneJobSpec, launch: Launch, settings: Settings, num_workers: int
) -> dict[str, Any]:
    return {
        "groupName": "workers",
        "replicas": num_workers,
        "minReplicas": spec.compute.workers.min,  # see loam_operator.elastic
        "maxReplicas": num_workers,
        "rayStartParams": {
            # One training process a pod, however few CPUs are reserved for it.
            "num-cpus": "1",
            "num-gpus": str(spec.compute.worker.gpus),
            # Where the pipeline may run beside it, see loam_runtime.remote.
            "resources": f"'{json.dumps({PIPELINE_RESOURCE: 1})}'",
            "object-store-memory": _OBJECT_STORE_BYTES,
        },
        "template": build_worker_pod(job, spec, launch, settings),
    }
