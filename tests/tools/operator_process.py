"""The operator as a process, and the part of KubeRay that a test plays on a real API server."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from tests.tools.processes import find_free_port
from tests.tools.waiting import wait_until

from loam_api.progress_document import ProgressDocument, ResultDocument, name_progress_key

_RAY_JOBS = {"group": "ray.io", "version": "v1", "plural": "rayjobs"}
RUN_KEY = "0123456789abcdef"
_JOBS = {"group": "loam.dev", "version": "v1alpha1", "plural": "finetunejobs"}
_RBAC = "rbac.authorization.k8s.io"
_GROUPS = {
    "RayJob": "ray.io",
    "Role": _RBAC,
    "RoleBinding": _RBAC,
    "NetworkPolicy": "networking.k8s.io",
}
# What the API server wants of an object that has nothing else to say.
_FOREIGN_FIELDS: dict[str, dict[str, Any]] = {
    "RayJob": {"spec": {"entrypoint": "true"}},
    "Role": {"rules": []},
    "RoleBinding": {"roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": "another"}},
    "NetworkPolicy": {"spec": {"podSelector": {}}},
}


class OperatorProcess:
    """One `python -m loam_operator`, which can be killed and started again.

    Attributes:
        port: of its probes and metrics.

    Args:
        kubeconfig: whose rights it has.
        log: a file for what it prints.
        program: instead of the module, for a test that needs another constant.
        settings: more of its environment.
    """

    def __init__(self, kubeconfig: Path, log: Path, *, program: str = "", **settings: str) -> None:
        self._log = log
        self._command = ["-c", program] if program else ["-m", "loam_operator"]
        self.port = find_free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **{name: value for name, value in os.environ.items() if "KUBE" not in name},
            "KUBECONFIG": str(kubeconfig),
            "LOAM_RUNTIME_IMAGE": "registry.example/loam-runtime:test",
            "LOAM_PORT": str(self.port),
            "POD_NAME": "operator-0",  # a killed container starts again in the same pod
            **settings,
        }

    def start(self, *, is_awaited: bool = True) -> None:
        """Start it; return once it holds the lease, unless it is not to be awaited."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, *self._command],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        if is_awaited:
            wait_until(lambda: self.read("readyz") is not None, "the operator to hold the lease")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """As a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> int:
        """As the kubelet does; returns the exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(timeout=30)
        self._process = None
        return code

    def read(self, path: str) -> str | None:
        """The answer of a probe or of /metrics; None where it is not 200."""
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{self.port}/{path}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        return None

    def read_failure(self, path: str) -> str:
        """What a probe says that fails; "" where it does not."""
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=5).close()
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError:
            pass
        return ""

    def count(self, metric: str) -> float:
        """The sum of a metric over its labels; 0 where it is not there."""
        lines = (self.read("metrics") or "").splitlines()
        values = [line.rpartition(" ")[2] for line in lines if line.startswith(metric)]
        return sum(float(value) for value in values)

    def read_log(self) -> str:
        return self._log.read_text("utf-8", "replace")


@contextlib.contextmanager
def run_operator(
    kubeconfig: Path, log: Path, *, program: str = "", **settings: str
) -> Iterator[OperatorProcess]:
    """An operator that works, until the block ends."""
    operator = OperatorProcess(kubeconfig, log, program=program, **settings)
    try:
        operator.start()
        yield operator
    finally:
        operator.kill()


class Stage:
    """The FineTuneJobs and RayJobs of one namespace, and what KubeRay and the pods would do."""

    def __init__(self, api_client: client.ApiClient, namespace: str) -> None:
        self.namespace = namespace
        self.core = client.CoreV1Api(api_client)
        self.custom = client.CustomObjectsApi(api_client)

    def apply(self, name: str, **spec: Any) -> dict[str, Any]:
        """Create a small job."""
        body = {
            "apiVersion": "loam.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": name},
            "spec": {
                "model": {"uri": "s3://bucket/model"},
                "data": {"task": "text", "seeds": {"uri": "s3://bucket/seeds.jsonl"}},
                "output": {"uri": "s3://bucket/out"},
                **spec,
            },
        }
        created: dict[str, Any] = self.custom.create_namespaced_custom_object(
            **_JOBS, namespace=self.namespace, body=body
        )
        return created

    def get_job(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.custom.get_namespaced_custom_object(
            **_JOBS, namespace=self.namespace, name=name
        )
        return found

    def read_row(self, name: str) -> dict[str, Any]:
        """What `kubectl get finetunejobs -o wide` prints of it, by column."""
        wanted = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        table = self.custom.get_namespaced_custom_object(
            **_JOBS, namespace=self.namespace, name=name, _headers=wanted
        )
        names = [column["name"] for column in table["columnDefinitions"]]
        return dict(zip(names, table["rows"][0]["cells"], strict=True))

    def change_job(self, name: str, body: dict[str, Any]) -> None:
        """Merge-patch it, as a user does."""
        self.custom.patch_namespaced_custom_object(
            **_JOBS, namespace=self.namespace, name=name, body=body
        )

    def delete_job(self, name: str, policy: str = "Background") -> None:
        """Delete it, its children before it (Foreground) or after it (Background)."""
        self.custom.delete_namespaced_custom_object(
            **_JOBS, namespace=self.namespace, name=name, propagation_policy=policy
        )

    def list_jobs(self) -> list[dict[str, Any]]:
        found = self.custom.list_namespaced_custom_object(**_JOBS, namespace=self.namespace)
        return list(found["items"])

    def find_ray_job(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.custom.get_namespaced_custom_object(
                **_RAY_JOBS, namespace=self.namespace, name=name
            )
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return found

    def list_ray_jobs(self) -> list[dict[str, Any]]:
        found = self.custom.list_namespaced_custom_object(**_RAY_JOBS, namespace=self.namespace)
        return list(found["items"])

    def await_ray_job(self, name: str) -> dict[str, Any]:
        found = wait_until(lambda: self.find_ray_job(name), f"RayJob {name}")
        assert found is not None
        return found

    def await_first_ray_job(self, job: str) -> str:
        """Name of the RayJob of a job's first attempt, whatever step that is."""

        def look() -> str:
            names = [one["metadata"]["name"] for one in self.list_ray_jobs()]
            return next((n for n in names if n.startswith(f"{job}-") and n.endswith("-a1")), "")

        return wait_until(look, f"a RayJob of {job}")

    def await_reason(self, name: str, *reasons: str) -> dict[str, Any]:
        """The job, once its condition Ready has one of these reasons."""

        def look() -> dict[str, Any] | None:
            job = self.get_job(name)
            return job if read_reason(job) in reasons else None

        try:
            found = wait_until(look, f"{name} to be {' or '.join(reasons)}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it is {self.get_job(name).get('status')}") from error
        assert found is not None
        return found

    def set_ray_job(self, name: str, **status: Any) -> None:
        """Write a RayJob's status, as KubeRay does."""
        self.custom.patch_namespaced_custom_object_status(
            **_RAY_JOBS, namespace=self.namespace, name=name, body={"status": status}
        )

    def keep_log(self, name: str, attempt: int, text: str) -> None:
        """Write the lines that the operator keeps of a log, where a kubelet gives it one."""
        self.custom.patch_namespaced_custom_object_status(
            group="loam.dev",
            version="v1alpha1",
            plural="finetunejobs",
            namespace=self.namespace,
            name=name,
            body={"status": {"failureLog": {"attempt": attempt, "text": text}}},
        )

    def create_pod(
        self,
        ray_job_name: str,
        ray_job: dict[str, Any],
        role: str,
        node: str = "",
        phase: str = "Running",
    ) -> str:
        """A pod as KubeRay makes it, on a node where one is named; returns its UID."""
        template = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
        if role == "worker":
            template = ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]
        name = f"{ray_job_name}-{role}"
        owner = {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "name": ray_job_name,
            "uid": ray_job["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        metadata = {**template["metadata"], "name": name, "ownerReferences": [owner]}
        pod = self.core.create_namespaced_pod(
            self.namespace,
            {"metadata": metadata, "spec": {**template["spec"], "nodeName": node or None}},
        )
        self.core.patch_namespaced_pod_status(name, self.namespace, {"status": {"phase": phase}})
        uid: str = pod.metadata.uid
        return uid

    def warn(self, kind: str, name: str, uid: str, reason: str, message: str) -> None:
        """An event about an object, as kubelets and controllers write it."""
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        about = {"kind": kind, "name": name, "namespace": self.namespace, "uid": uid}
        body = {
            "metadata": {"generateName": f"{name}."},
            "involvedObject": about,
            "type": "Warning",
            "reason": reason,
            "message": message,
            "lastTimestamp": moment,
        }
        self.core.create_namespaced_event(self.namespace, body)

    def list_events(self, job: str) -> list[tuple[str, str]]:
        """Type and reason of what `kubectl describe` shows of a job, the oldest first."""
        uid = self.get_job(job)["metadata"]["uid"]
        selector = f"involvedObject.uid={uid}"
        found = self.core.list_namespaced_event(self.namespace, field_selector=selector).items
        found.sort(key=lambda one: int(one.metadata.resource_version))
        return [(one.type, one.reason) for one in found for _ in range(one.count)]

    def delete_pod(self, name: str) -> None:
        """At once, as when its node is gone."""
        self.core.delete_namespaced_pod(name, self.namespace, grace_period_seconds=0)

    def list_pod_uids(self) -> list[str]:
        return [pod.metadata.uid for pod in self.core.list_namespaced_pod(self.namespace).items]

    def create_foreign(self, kind: str, name: str) -> None:
        """An object of somebody else's under a child's name."""
        metadata = {"name": name}
        if kind == "ConfigMap":
            self.core.create_namespaced_config_map(self.namespace, {"metadata": metadata})
        elif kind == "ServiceAccount":
            self.core.create_namespaced_service_account(self.namespace, {"metadata": metadata})
        else:
            place, fields = _find_place(kind), _FOREIGN_FIELDS[kind]
            version = f"{place['group']}/v1"
            body = {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}
            self.custom.create_namespaced_custom_object(
                **place, namespace=self.namespace, body=body
            )

    def delete_foreign(self, kind: str, name: str) -> None:
        if kind == "ConfigMap":
            self.core.delete_namespaced_config_map(name, self.namespace)
        elif kind == "ServiceAccount":
            self.core.delete_namespaced_service_account(name, self.namespace)
        else:
            self.custom.delete_namespaced_custom_object(
                **_find_place(kind), namespace=self.namespace, name=name
            )

    def list_children(self, job: str) -> list[str]:
        """Kind and name of everything that carries the job's label."""
        selector = f"loam.dev/job={job}"
        access = client.RbacAuthorizationV1Api(self.core.api_client)
        typed = [
            *self.core.list_namespaced_config_map(self.namespace, label_selector=selector).items,
            *self.core.list_namespaced_service_account(
                self.namespace, label_selector=selector
            ).items,
            *access.list_namespaced_role(self.namespace, label_selector=selector).items,
            *access.list_namespaced_role_binding(self.namespace, label_selector=selector).items,
            *self.core.list_namespaced_pod(self.namespace, label_selector=selector).items,
            *client.NetworkingV1Api(self.core.api_client)
            .list_namespaced_network_policy(self.namespace, label_selector=selector)
            .items,
        ]
        ray_jobs = self.custom.list_namespaced_custom_object(
            **_RAY_JOBS, namespace=self.namespace, label_selector=selector
        )
        names = [f"{type(one).__name__} {one.metadata.name}" for one in typed]
        return names + [f"RayJob {one['metadata']['name']}" for one in ray_jobs["items"]]

    def say(self, name: str, attempt: int, **fields: Any) -> None:
        """Write progress of a RayJob's attempt, as its head pod does."""
        document = ProgressDocument.model_validate({"attempt": attempt, **fields}).to_json()
        self.write_progress(name, attempt, document)

    def write_progress(self, name: str, attempt: int, text: str) -> None:
        """Write whatever text where the progress of a RayJob's attempt stands."""
        job = name.rsplit("-", 2)[0]
        self.core.patch_namespaced_config_map(
            f"{job}-progress", self.namespace, {"data": {name_progress_key(attempt): text}}
        )

    def succeed(self, name: str, attempt: int, **found: Any) -> None:
        """The step is done, and KubeRay saw its RayJob end well."""
        self.say(name, attempt, result=ResultDocument(exit_code=0, **found))
        self.set_ray_job(name, jobStatus="SUCCEEDED", jobDeploymentStatus="Complete")

    def publish(self, name: str, attempt: int) -> None:
        """The step finds, or leaves, a published run: the job is done."""
        self.succeed(name, attempt, method="lora", run_key=RUN_KEY, is_published=True)

    def fail(
        self, name: str, attempt: int, exit_code: int, message: str = "", **found: Any
    ) -> None:
        """The pipeline ended with an exit code, and KubeRay saw the job fail."""
        result = ResultDocument(exit_code=exit_code, message=message, **found)
        self.say(name, attempt, result=result)
        self.fail_ray_job(name, exit_code)

    def fail_ray_job(self, name: str, exit_code: int = 1) -> None:
        """KubeRay's part of it."""
        words = f"Job entrypoint command failed with exit code {exit_code}, last available logs"
        self.set_ray_job(
            name,
            jobStatus="FAILED",
            jobDeploymentStatus="Failed",
            reason="AppFailed",
            message=words,
        )


def _find_place(kind: str) -> dict[str, str]:
    """Of a kind that has a group, all of them in version 1."""
    plural = "networkpolicies" if kind == "NetworkPolicy" else f"{kind.lower()}s"
    return {"group": _GROUPS[kind], "version": "v1", "plural": plural}


def read_reason(job: dict[str, Any]) -> str:
    """The reason of the condition Ready; "" without one."""
    conditions = job.get("status", {}).get("conditions", [])
    return next((one["reason"] for one in conditions if one["type"] == "Ready"), "")


def read_conditions(job: dict[str, Any]) -> dict[str, str]:
    """Status by type."""
    return {one["type"]: one["status"] for one in job["status"]["conditions"]}
