"""FineTuneJobs in a cluster, as a user sees them: by kubeconfig, with the user's own rights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loam_runtime.errors import CredentialsError, InputError, LoamError

RETRY_ANNOTATION = "loam.dev/retry"
_PLACE = {"group": "loam.dev", "version": "v1alpha1", "plural": "finetunejobs"}
_REQUEST_SECONDS = 30


@dataclass(frozen=True, slots=True)
class JobState:
    """What a job's status says.

    Attributes:
        reason, message: of the condition Ready; "" before the operator has seen the job.
        summary: progress of the current step, such as "train 62 %".
        kept_log: last lines of the latest failed attempt.
    """

    name: str
    namespace: str
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    summary: str = ""
    attempt: int = 0
    metrics: Mapping[str, Any] | None = None
    kept_log: str = ""
    retry_token: str = ""
    run_key: str = ""

    @property
    def is_over(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "name": self.name,
            "namespace": self.namespace,
            "phase": self.phase,
            "reason": self.reason,
            "message": self.message,
            "attempt": self.attempt,
            "metrics": dict(self.metrics) if self.metrics else None,
        }


def read_state(raw: Mapping[str, Any]) -> JobState:
    """The state in a FineTuneJob as the API server sends it."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    conditions = status.get("conditions") or []
    ready = next((one for one in conditions if one.get("type") == "Ready"), {})
    return JobState(
        name=metadata["name"],
        namespace=metadata["namespace"],
        phase=status.get("phase") or "Pending",
        reason=ready.get("reason", ""),
        message=ready.get("message", ""),
        summary=(status.get("progress") or {}).get("summary", ""),
        attempt=status.get("attempt") or 0,
        metrics=status.get("metrics"),
        kept_log=(status.get("failureLog") or {}).get("text", ""),
        run_key=status.get("runKey", ""),
        retry_token=(metadata.get("annotations") or {}).get(RETRY_ANNOTATION, ""),
    )


class ClusterJobs:
    """The jobs of one namespace.

    Args:
        namespace: "" for the kubeconfig context's own.

    Raises:
        LoamError: no cluster is configured, or the client is not installed.
    """

    def __init__(self, namespace: str = "") -> None:
        try:
            from kubernetes import client, config
        except ImportError as exc:
            raise LoamError(
                "The Kubernetes client is not installed.", remedy="pip install 'loam[cluster]'."
            ) from exc
        connection, own = _connect(client, config)
        self.namespace = namespace or own
        self._core = client.CoreV1Api(connection)
        self._custom = client.CustomObjectsApi(connection)

    def read(self, name: str) -> JobState:
        """A job as it is now.

        Raises:
            InputError: there is no such job, or no FineTuneJob at all in this cluster.
            CredentialsError: the user may not read it.
            LoamError: the cluster does not answer.
        """
        place = {**_PLACE, "namespace": self.namespace, "name": name}
        raw = self._call(
            name,
            lambda: self._custom.get_namespaced_custom_object(
                **place, _request_timeout=_REQUEST_SECONDS
            ),
        )
        return read_state(raw)

    def retry(self, name: str, token: str) -> None:
        """Ask for another try of a failed job; raises as `read`."""
        self.annotate(name, {RETRY_ANNOTATION: token})

    def annotate(self, name: str, annotations: Mapping[str, str | None]) -> None:
        """Set annotations of a job, or take away those that are None; raises as `read`."""
        place = {**_PLACE, "namespace": self.namespace, "name": name}
        body = {"metadata": {"annotations": dict(annotations)}}
        self._call(
            name,
            lambda: self._custom.patch_namespaced_custom_object(
                **place, body=body, _request_timeout=_REQUEST_SECONDS
            ),
        )

    def find_pod(self, name: str, role: str) -> str:
        """The pod of a role in a job's latest attempt that has logs; "" for none."""
        selector = f"loam.dev/job={name},loam.dev/role={role}"
        pods = self._call(
            name,
            lambda: self._core.list_namespaced_pod(
                self.namespace, label_selector=selector, _request_timeout=_REQUEST_SECONDS
            ),
        ).items
        started = [pod for pod in pods if pod.status.phase != "Pending"]
        newest = sorted(
            started, key=lambda pod: int(pod.metadata.labels.get("loam.dev/attempt", "0"))
        )
        return newest[-1].metadata.name if newest else ""

    def stream_log(self, name: str, pod: str, lines: int, follow: bool) -> Iterator[str]:
        """A pod's log in pieces as they come; raises as `read`."""
        answer = self._call(
            name,
            lambda: self._core.read_namespaced_pod_log(
                pod,
                self.namespace,
                tail_lines=lines,
                follow=follow,
                _preload_content=False,
                _request_timeout=None if follow else _REQUEST_SECONDS,
            ),
        )
        for piece in answer.stream(decode_content=True):
            yield piece.decode("utf-8", "replace")

    def _call(self, name: str, request: Any) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return request()
        except ApiException as exc:
            raise _explain(exc.status, str(exc.body or exc.reason), name, self.namespace) from exc
        except HTTPError as exc:
            host = self._core.api_client.configuration.host
            raise LoamError(
                f"The cluster at {host} does not answer: {str(exc)[:300].rstrip('.')}.",
                remedy="See that KUBECONFIG and its current context name a cluster that runs.",
            ) from exc


def _connect(client: Any, config: Any) -> tuple[Any, str]:
    """A connection by the kubeconfig, or from inside a pod; and the namespace that goes with it."""
    try:
        connection = config.new_client_from_config()
        context = config.list_kube_config_contexts()[1]
    except (config.ConfigException, OSError) as exc:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            configuration = client.Configuration()
            config.load_incluster_config(client_configuration=configuration)
            return client.ApiClient(configuration), "default"
        raise LoamError(
            f"No cluster is configured: {str(exc).rstrip('.')}.",
            remedy="Set KUBECONFIG, or write ~/.kube/config.",
        ) from exc
    return connection, str(context["context"].get("namespace") or "default")


def _explain(status: int, words: str, name: str, namespace: str) -> LoamError:
    if status == 404 and "page not found" in words:
        return InputError(
            "This cluster has no FineTuneJobs: Loam is not installed in it.",
            remedy="Install the chart charts/loam, or take another context.",
        )
    if status == 404:
        return InputError(
            f"There is no FineTuneJob {name} in namespace {namespace}.",
            remedy="Give its namespace with -n; kubectl get finetunejobs -A lists all.",
        )
    if status in (401, 403):
        return CredentialsError(
            f"The cluster refuses it: {words[:300]}",
            remedy="Ask for the right to get and patch finetunejobs and to get pods/log.",
        )
    return LoamError(f"The cluster answers {status}: {words[:300]}", remedy="Try again later.")
