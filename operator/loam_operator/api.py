"""Plain requests to the API server, through the official client's connection and credentials."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from aiohttp import ClientConnectionError, ClientError, TraceConfig
from kubernetes.aio import client, config

from loam_operator.metrics import API_REQUESTS

USER_AGENT = "loam-operator"  # also the field manager of what is written
REQUEST_SECONDS = 30
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
JSON = "application/json"
# Of what was just created, all but the metadata is known: a RayJob is many times as long.
_METADATA_ONLY = f"{JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_LIST_METADATA_ONLY = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PAGE = 500

Body = dict[str, Any] | Sequence[dict[str, Any]]


class ApiError(Exception):
    """The API server refused or failed.

    Attributes:
        status: of HTTP; 0 where there was no answer.
        reason: Kubernetes' word, such as AlreadyExists.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


async def connect(may_write: Callable[[], bool] = lambda: True) -> client.ApiClient:
    """A connection by the pod's service account, or by KUBECONFIG outside of a cluster.

    Args:
        may_write: asked when the body of a request is on its way to the socket, so that a process
            that was stopped anywhere in between sends nothing after it has lost its lease.
    """
    configuration = client.Configuration()
    configuration.trace_configs = [build_guard(may_write)]
    # Or else each request reads ~/.netrc for a password, in a thread: a tenth of its CPU time.
    configuration.client_session_kwargs = {"trust_env": False}
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        config.load_incluster_config(client_configuration=configuration)
    else:
        await config.load_kube_config(client_configuration=configuration)
    connection = client.ApiClient(configuration)
    connection.user_agent = USER_AGENT
    return connection


def build_guard(may_write: Callable[[], bool]) -> TraceConfig:
    """aiohttp calls it before the first byte leaves: it sends short headers with the body."""

    async def refuse(*_: Any) -> None:
        if not may_write():
            raise ClientConnectionError("the lease is lost")

    guard = TraceConfig()
    guard.on_request_chunk_sent.append(refuse)
    return guard


class Api:
    """JSON in, JSON out; each request counted."""

    def __init__(self, connection: client.ApiClient) -> None:
        self._connection = connection

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        return await self.request("GET", path, query=list(query.items()))

    async def find(self, path: str, **query: str) -> dict[str, Any] | None:
        """The object at a path, or None."""
        try:
            return await self.get(path, **query)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self, path: str, *, is_short: bool = False, **query: str
    ) -> AsyncIterator[dict[str, Any]]:
        """The objects at a path, read in pages that belong together.

        Args:
            is_short: only their metadata.
        """
        accept = _LIST_METADATA_ONLY if is_short else JSON
        page = {**query, "continue": "", "limit": str(_PAGE)}
        while True:
            answer = await self.request("GET", path, query=list(page.items()), accept=accept)
            for one in answer["items"] or ():  # an empty list of metadata alone is a null
                yield one
            page["continue"] = answer["metadata"].get("continue", "")
            if not page["continue"]:
                return

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object; returns its metadata."""
        # Strict: an older KubeRay that does not know a field must not drop it unseen.
        query = [("fieldValidation", "Strict")]
        return await self.request("POST", path, body=body, query=query, accept=_METADATA_ONLY)

    async def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self.request("PATCH", path, body=body, content_type=MERGE_PATCH)

    async def patch_by_operations(
        self, path: str, operations: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        """Change parts of a list, as RFC 6902 says; returns the object's metadata."""
        return await self.request(
            "PATCH", path, body=operations, content_type=JSON_PATCH, accept=_METADATA_ONLY
        )

    async def delete(self, path: str, body: dict[str, Any] | None = None, **query: str) -> None:
        """Delete; it is no error if there is nothing."""
        try:
            # Never without a body: with it goes the question whether this process may write.
            await self.request("DELETE", path, body=body or {}, query=list(query.items()))
        except ApiError as error:
            if error.status != 404:
                raise

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Body | None = None,
        query: Sequence[tuple[str, str]] = (),
        content_type: str = JSON,
        accept: str = JSON,
    ) -> dict[str, Any]:
        """One request.

        Raises:
            ApiError: anything but success.
        """
        headers = {"Accept": accept, "Content-Type": content_type}
        return _parse(*await self._send(method, path, headers, query, body))

    async def read_text(self, path: str, **query: str) -> str:
        """What is no JSON, such as a log.

        Raises:
            ApiError: anything but success.
        """
        status, data = await self._send("GET", path, {"Accept": "*/*"}, list(query.items()))
        if not 200 <= status < 300:
            _parse(status, data)
        return data.decode("utf-8", "replace")

    async def _send(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        query: Sequence[tuple[str, str]],
        body: Body | None = None,
    ) -> tuple[int, bytes]:
        # Without the body, which it would copy piece by piece, looking for models in it.
        _, url, headers, *_ = await self._connection.param_serialize(
            method,
            path,
            query_params=list(query),
            header_params=headers,
            auth_settings=["BearerToken"],
        )
        try:
            response = await self._connection.call_api(
                method, url, headers, body, _request_timeout=REQUEST_SECONDS
            )
            data = await response.read()
        except (OSError, TimeoutError, ClientError, client.ApiException) as exc:
            API_REQUESTS.labels(method, "0").inc()
            raise ApiError(0, "NoAnswer", str(exc)) from exc
        API_REQUESTS.labels(method, str(response.status)).inc()
        return int(response.status), bytes(data)


def _parse(status: int, data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data) if data else {}
    except ValueError:
        answer = {"message": data[:200].decode("utf-8", "replace")}
    if not 200 <= status < 300:
        raise ApiError(status, str(answer.get("reason", "")), str(answer.get("message", ""))[:500])
    return dict(answer)
