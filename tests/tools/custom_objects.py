"""Creating, changing and reading FineTuneJobs through the API server's own answers."""

from __future__ import annotations

import copy
import json
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

Manifest = dict[str, Any]

_PLACE = {"group": "loam.dev", "version": "v1alpha1", "plural": "finetunejobs"}
REFUSALS = (400, 422)  # unknown fields; everything else that the CRD says


class FineTuneJobs:
    """The FineTuneJobs of one namespace."""

    def __init__(self, api_client: client.ApiClient, namespace: str) -> None:
        self._api = client.CustomObjectsApi(api_client)
        self._place = {**_PLACE, "namespace": namespace}

    def create(self, manifest: Manifest) -> Manifest:
        """Create it; the object as the server keeps it."""
        created: Manifest = self._api.create_namespaced_custom_object(
            **self._place, body=manifest, field_validation="Strict"
        )
        return created

    def read(self, name: str) -> Manifest:
        """The object as it is now."""
        found: Manifest = self._api.get_namespaced_custom_object(**self._place, name=name)
        return found

    def delete(self, name: str) -> None:
        """Delete it; its children are left to the garbage collector."""
        self._api.delete_namespaced_custom_object(**self._place, name=name)

    def read_table(self) -> Manifest:
        """What `kubectl get` prints, as the server sends it."""
        wanted = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        table: Manifest = self._api.list_namespaced_custom_object(**self._place, _headers=wanted)
        return table

    def try_create(self, manifest: Manifest) -> tuple[Manifest | None, str]:
        """What `kubectl apply --dry-run=server` says: the defaulted object, or the refusal."""
        try:
            return self._api.create_namespaced_custom_object(
                **self._place, body=manifest, field_validation="Strict", dry_run="All"
            ), ""
        except ApiException as error:
            return None, _read_refusal(error)

    def try_change(self, created: Manifest, spec: Manifest) -> str:
        """Why the server refuses this as the new spec of an object; "" where it does not."""
        changed = {**copy.deepcopy(created), "spec": spec}
        try:
            self._api.replace_namespaced_custom_object(
                **self._place,
                name=created["metadata"]["name"],
                body=changed,
                field_validation="Strict",
                dry_run="All",
            )
        except ApiException as error:
            return _read_refusal(error)
        return ""


def _read_refusal(error: ApiException) -> str:
    if error.status not in REFUSALS:
        raise error
    message: str = json.loads(error.body)["message"]
    return message
