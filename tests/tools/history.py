"""Everything that was ever written in a namespace, in its order, from etcd itself.

A watch may miss what happens while the API server is away, and a poll what is over before the next
one; etcd keeps each revision, for five minutes where the control plane is not audited.
"""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

_MARKER = "/test-marker"


@dataclass(frozen=True, slots=True)
class Change:
    """One write of one object.

    Attributes:
        revision: of etcd, which counts the writes of all objects together.
        plural: of its kind.
        is_new: whether it was created by this.
        body: None for a deletion; empty for kinds that etcd does not hold as JSON.
    """

    revision: int
    plural: str
    name: str
    is_new: bool
    body: dict[str, Any] | None


class History:
    """What happens in a namespace from now on."""

    def __init__(self, etcd_url: str, namespace: str) -> None:
        self._url = etcd_url
        self._namespace = namespace
        self._start = self._mark() + 1

    def list_changes(self) -> list[Change]:
        """All until now.

        Raises:
            RuntimeError: it is too long ago.
        """
        end = self._mark()
        wanted = {"key": _encode("/"), "range_end": _encode("0"), "start_revision": self._start}
        changes: list[Change] = []
        with self._post("watch", {"create_request": wanted}) as answer:
            for event in _read_events(answer):
                if int(event["kv"]["mod_revision"]) >= end:
                    break
                change = _view_change(event, self._namespace)
                changes += [change] if change else []
        return changes

    def _mark(self) -> int:
        """Write something, so that a watch has an end; returns its revision."""
        body = {"key": _encode(_MARKER), "value": ""}
        with self._post("kv/put", body) as answer:
            return int(json.load(answer)["header"]["revision"])

    def _post(self, path: str, body: dict[str, Any]) -> HTTPResponse:
        request = urllib.request.Request(f"{self._url}/v3/{path}", json.dumps(body).encode())
        answer = urllib.request.urlopen(request, timeout=30)
        assert isinstance(answer, HTTPResponse)
        return answer


def _read_events(answer: HTTPResponse) -> Iterator[dict[str, Any]]:
    for line in answer:
        result = json.loads(line)["result"]
        if result.get("canceled"):
            raise RuntimeError(f"etcd does not remember that far: {result}")
        yield from result.get("events", [])


def _view_change(event: dict[str, Any], namespace: str) -> Change | None:
    """None for an object of another namespace, or of none."""
    kv = event["kv"]
    parts = base64.b64decode(kv["key"]).decode().split("/")
    if parts[-2] != namespace:
        return None
    revision, is_gone = int(kv["mod_revision"]), event.get("type") == "DELETE"
    value = base64.b64decode(kv.get("value", ""))
    body = json.loads(value) if value.startswith(b"{") else {}
    is_new = kv.get("create_revision") == kv["mod_revision"]
    return Change(revision, parts[-3], parts[-1], is_new, None if is_gone else body)


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
