"""One FineTuneJob on the test node: what a user applies, and what a test may do to it."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from tests.tools.custom_objects import FineTuneJobs
from tests.tools.fault_proxy import FaultProxy, Gate
from tests.tools.operator_process import read_reason
from tests.tools.s3_server import S3Server
from tests.tools.tiny_job import write_job
from tests.tools.waiting import wait_until

from loam_api.ports import METRICS_PORT
from loam_operator.names import ATTEMPT_LABEL, JOB_LABEL, RETRY_ANNOTATION, ROLE_LABEL

SECRET = "storage"
RAYJOBS = {"group": "ray.io", "version": "v1", "plural": "rayjobs"}
RAYCLUSTERS = {"group": "ray.io", "version": "v1", "plural": "rayclusters"}
OPERATOR_PORT = 8080
START_TIMEOUT_SECONDS = 180
TIMEOUT_SECONDS = 180
END_REASONS = ("Succeeded", "Failed")
SMALL = {
    "head": {"cpu": "200m", "memory": "3Gi"},
    "worker": {"cpu": "300m", "memory": "3Gi"},
}
# Every step leaves a checkpoint, so that a gate can stop the training at any of them.
TRAINING = {
    "method": "lora",
    "learningRate": 0.01,
    "epochs": 6,
    "globalBatch": 8,
    "checkpoint": {"everySeconds": 0},
    "earlyStopping": {"enabled": False},
}


@dataclass(frozen=True, slots=True)
class Storage:
    """Object storage as the pods see it: through a proxy that can hold them at a request.

    Attributes:
        server: the server itself, as the test sees it.
    """

    server: S3Server
    proxy: FaultProxy

    @property
    def env(self) -> dict[str, str]:
        """The environment of the pods."""
        return {**self.server.env, "AWS_ENDPOINT_URL": self.proxy.endpoint}


class NodeJob:
    """A job with a bucket of its own, in a namespace that it may share.

    Args:
        folder: new; for the job's inputs on their way to the bucket.
    """

    def __init__(
        self,
        api_client: client.ApiClient,
        namespace: str,
        storage: Storage,
        folder: Path,
        name: str = "tiny",
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.jobs = FineTuneJobs(api_client, namespace)
        self.bucket = storage.server.create_bucket()
        self._storage = storage
        self._s3 = storage.server.create_client()
        self._core = client.CoreV1Api(api_client)
        self._custom = client.CustomObjectsApi(api_client)
        self._folder = folder

    # --- what a user does ---------------------------------------------------------------------

    def create_secret(self, **wrong: str) -> None:
        """The Secret that `output.secretRef` names; `wrong` values replace the right ones."""
        secret = {"metadata": {"name": SECRET}, "stringData": {**self._storage.env, **wrong}}
        self._core.create_namespaced_secret(self.namespace, secret)

    def delete_secret(self) -> None:
        """Take the Secret away."""
        self._core.delete_namespaced_secret(SECRET, self.namespace)

    def apply(
        self,
        *,
        model: Path | None = None,
        labels: dict[str, str] | None = None,
        compute: dict[str, Any] | None = None,
        write: Callable[..., Path] = write_job,
        **changes: Any,
    ) -> None:
        """Put the inputs into the bucket and apply the job.

        Args:
            model: a file; by default a tiny model is made.
            write: as `write_job`; whose defaults for model, training, compute and output are not
                used.
            changes: blocks of the spec, instead of the default ones.
        """
        path = write(
            self._folder,
            name=self.name,
            **{
                "model": {"uri": f"s3://{self.bucket}/in/{model.name if model else 'model'}"},
                "data": self.build_data("classification"),
                "training": TRAINING,
                "output": {"uri": f"s3://{self.bucket}/out", "secretRef": {"name": SECRET}},
                "compute": {**SMALL, **(compute or {})},
                **changes,
            },
        )
        self._upload_inputs(model or self._folder / "model")
        manifest = yaml.safe_load(path.read_text("utf-8"))
        manifest["metadata"]["labels"] = labels or {}
        self.jobs.create(manifest)

    def build_data(self, task: str) -> dict[str, Any]:
        """The block `data` of a job whose rows `apply` uploads."""
        folder = f"s3://{self.bucket}/in"
        rows = {name: {"uri": f"{folder}/{name}.jsonl"} for name in ("seeds", "test")}
        return {"task": task, **rows}

    def _upload_inputs(self, model: Path) -> None:
        files = {file: f"in/{file.name}" for file in self._folder.glob("*.jsonl")}
        parts = sorted(model.iterdir()) if model.is_dir() else [model]
        files |= {part: f"in/{part.relative_to(model.parent)}" for part in parts}
        for file, key in files.items():
            self._s3.upload_file(str(file), self.bucket, key)

    def patch(self, spec: dict[str, Any]) -> None:
        """As `kubectl patch --type=merge` does."""
        self._patch({"spec": spec})

    def retry(self) -> None:
        """Start the failed job again; return when the operator has."""
        token = f"after attempt {len(self.read_status()['attempts'])}"
        self._patch({"metadata": {"annotations": {RETRY_ANNOTATION: token}}})
        wait_until(lambda: self.read_status()["phase"] not in END_REASONS, f"{self.name} again")

    def _patch(self, changes: dict[str, Any]) -> None:
        self._custom.patch_namespaced_custom_object(
            "loam.dev", "v1alpha1", self.namespace, "finetunejobs", self.name, changes
        )

    # --- what is seen ---------------------------------------------------------------------------

    def read_status(self) -> dict[str, Any]:
        """The job's status."""
        return dict(self.jobs.read(self.name).get("status", {}))

    def read_message(self) -> str:
        """What the condition Ready says."""
        conditions = self.read_status().get("conditions", [])
        return next((one.get("message", "") for one in conditions if one["type"] == "Ready"), "")

    def await_reason(self, *reasons: str, timeout_seconds: float = TIMEOUT_SECONDS) -> str:
        """Wait for one of these reasons of the condition Ready; which it is.

        Raises:
            AssertionError: the job ended otherwise.
        """

        def look() -> str:
            job = self.jobs.read(self.name)
            reason = read_reason(job)
            phase = job.get("status", {}).get("phase")
            assert reason in reasons or phase not in END_REASONS, job["status"]
            return reason if reason in reasons else ""

        return wait_until(look, f"{self.name} to be {' or '.join(reasons)}", timeout_seconds)

    def await_success(self, timeout_seconds: float = TIMEOUT_SECONDS) -> dict[str, Any]:
        """Wait for the job's success; its status."""
        self.await_reason("Succeeded", timeout_seconds=timeout_seconds)
        return self.read_status()

    def list_pods(self, role: str = "", attempt: int = 0) -> list[Any]:
        """Pods of the job that run, or are about to."""
        labels = {JOB_LABEL: self.name, ROLE_LABEL: role, ATTEMPT_LABEL: str(attempt or "")}
        selector = ",".join(f"{key}={value}" for key, value in labels.items() if value)
        found = self._core.list_namespaced_pod(self.namespace, label_selector=selector).items
        return [
            pod
            for pod in found
            if pod.metadata.deletion_timestamp is None
            and pod.status.phase in ("Pending", "Running")
        ]

    def list_ray_jobs(self) -> list[Any]:
        """The job's RayJobs that are not being deleted."""
        return [one for one in self._list(RAYJOBS) if "deletionTimestamp" not in one["metadata"]]

    def list_leftovers(self) -> list[str]:
        """All that carries the job's label, whatever state it is in."""
        selector = {"label_selector": f"{JOB_LABEL}={self.name}"}
        rbac = client.RbacAuthorizationV1Api(self._core.api_client)
        found = [
            *self._core.list_namespaced_pod(self.namespace, **selector).items,
            *self._core.list_namespaced_config_map(self.namespace, **selector).items,
            *self._core.list_namespaced_service_account(self.namespace, **selector).items,
            *self._core.list_namespaced_service(self.namespace, **selector).items,
            *rbac.list_namespaced_role(self.namespace, **selector).items,
            *rbac.list_namespaced_role_binding(self.namespace, **selector).items,
        ]
        names = [f"{type(one).__name__} {one.metadata.name}" for one in found]
        return [
            *names,
            *(f"{one['kind']} {one['metadata']['name']}" for one in self._list(RAYJOBS)),
            *(f"{one['kind']} {one['metadata']['name']}" for one in self._list(RAYCLUSTERS)),
        ]

    def _list(self, kind: dict[str, str]) -> list[Any]:
        answer = self._custom.list_namespaced_custom_object(
            **kind, namespace=self.namespace, label_selector=f"{JOB_LABEL}={self.name}"
        )
        return list(answer["items"])

    def scrape(self) -> str:
        """The metrics of the head pod, as Prometheus gets them; "" before it serves them."""
        (head,) = self.list_pods("head")
        with contextlib.suppress(urllib.error.URLError):
            return _scrape(head, METRICS_PORT)
        return ""

    def scrape_operator(self) -> str:
        """The metrics of the operator that the chart installed."""
        (operator,) = self._core.list_namespaced_pod(
            "loam-system", label_selector="app.kubernetes.io/name=loam-operator"
        ).items
        return _scrape(operator, OPERATOR_PORT)

    # --- what the run left in the bucket --------------------------------------------------------

    def list_keys(self, prefix: str = "out/") -> list[str]:
        """Keys of the bucket, below the output unless told otherwise."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix
        )
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def read_json(self, suffix: str) -> Any:
        """The one object below the output whose key ends so."""
        (key,) = [key for key in self.list_keys() if key.endswith(suffix)]
        return self._read_json(key)

    def read_claims(self) -> dict[str, str]:
        """UID of the head pod that works, or worked, by the name of the claim."""
        keys = self.list_keys("out/claims/")
        return {key.rpartition("/")[2]: self._read_json(key)["headUid"] for key in keys}

    def list_events(self, event: str) -> list[dict[str, Any]]:
        """The fields of all events of this name in the logs, those of each start together."""
        return [line["fields"] for line in self.list_log_lines() if line["event"] == event]

    def list_log_lines(self) -> list[dict[str, Any]]:
        """All events of the logs, in the order of the job's starts."""
        keys = [key for key in self.list_keys() if key.endswith("/log.jsonl")]
        return [
            line
            for key in sorted(keys, key=lambda key: int(key.split("/")[-2]))
            for line in self._read_lines(key)
        ]

    def read_newest_losses(self) -> list[float]:
        """The losses of all steps up to the newest checkpoint that is whole."""
        markers = [key for key in self.list_keys() if "/complete-00000-of-" in key]
        newest = max(markers).rpartition("/")[0]
        losses: list[float] = self._read_json(f"{newest}/loop.json")["losses"]
        return losses

    def _read_json(self, key: str) -> Any:
        return json.loads(self._s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def _read_lines(self, key: str) -> Iterator[dict[str, Any]]:
        text = self._s3.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode()
        yield from map(json.loads, text.splitlines())

    # --- what a test does to it -----------------------------------------------------------------

    def hold_at_step(self, step: int) -> Gate:
        """Let no checkpoint of this step be written until the gate opens: training stops there."""
        gate = Gate(rf"PUT /{self.bucket}/out/\S*checkpoints/step-{step:08d}/")
        self._storage.proxy.gate = gate
        return gate

    def await_step(self, gate: Gate, timeout_seconds: float = START_TIMEOUT_SECONDS) -> None:
        """Wait until the training is held at the gate.

        Raises:
            AssertionError: the job ended before.
        """

        def look() -> bool:
            status = self.read_status()
            assert status.get("phase") not in END_REASONS, status
            return gate.reached.wait(0.5)

        wait_until(look, f"{self.name} to come to the gate", timeout_seconds)

    def kill_pod(self, pod: Any) -> None:
        """Take a pod away at once, as when its node is lost; return when it is gone."""
        name, uid = pod.metadata.name, pod.metadata.uid
        self._core.delete_namespaced_pod(name, self.namespace, grace_period_seconds=0)
        wait_until(
            lambda: all(one.metadata.uid != uid for one in self.list_pods()), f"the end of {name}"
        )

    def await_new_pod(self, role: str, old_uid: str) -> Any:
        """Wait for a running pod in another one's place."""

        def look() -> Any:
            running = [pod for pod in self.list_pods(role) if pod.status.phase == "Running"]
            return next((pod for pod in running if pod.metadata.uid != old_uid), None)

        return wait_until(look, f"a new {role} pod", TIMEOUT_SECONDS)

    def delete(self) -> None:
        """Delete the job; return when nothing of it is left.

        Raises:
            TimeoutError: something is.
        """
        self.jobs.delete(self.name)
        wait_until(lambda: not self.list_leftovers(), f"all of {self.name} to go", TIMEOUT_SECONDS)


def _scrape(pod: Any, port: int) -> str:
    with urllib.request.urlopen(f"http://{pod.status.pod_ip}:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
        return text
