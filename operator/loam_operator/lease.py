"""Who writes: the holder of a Lease. An operator without it watches and does nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from loam_operator.api import Api, ApiError
from loam_operator.metrics import IS_LEADER
from loam_operator.status import parse_time

LEASE_NAME = "loam-operator"
LEASE_SECONDS = 15
RENEW_SECONDS = 4.0
# Given up earlier than others may take it, and before a slow request could straddle the change.
_HELD_SECONDS = 10.0

logger = logging.getLogger(__name__)


class Lease:
    """A coordination.k8s.io Lease, renewed while it is held.

    Args:
        identity: of the pod, so that its container, when started again, goes on at once.
        clock: seconds that never go back.
    """

    def __init__(self, api: Api, namespace: str, identity: str, clock: Callable[[], float]) -> None:
        self._api = api
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._identity = identity
        self._clock = clock
        self._renewed_at: float | None = None
        self._seen: tuple[str, float] = ("", 0.0)

    def is_held(self) -> bool:
        """Whether this process may write now."""
        return self._renewed_at is not None and self._clock() - self._renewed_at < _HELD_SECONDS

    async def run(self, on_acquired: Callable[[], None], on_renewed: Callable[[], None]) -> None:
        """Take the lease whenever it is free, and keep it; until cancelled.

        Args:
            on_renewed: called when this process has renewed it, or has read that another holds it.
        """
        while True:
            started = self._clock()
            is_renewed: bool | None = None
            try:
                is_renewed = await self._renew()
            except ApiError as error:
                logger.warning("The lease could not be renewed: %s", error)
            was_held = self.is_held()  # without this renewal: it may have taken too long
            if is_renewed is not None:
                self._renewed_at = started if is_renewed else None
                on_renewed()
            IS_LEADER.set(self.is_held())
            if self.is_held() and not was_held:
                logger.info("%s holds the lease and begins to write", self._identity)
                on_acquired()
            await asyncio.sleep(RENEW_SECONDS if self.is_held() else RENEW_SECONDS / 4)

    async def release(self) -> None:
        """Let the next one in at once."""
        if self._renewed_at is None:
            return
        self._renewed_at = None
        with contextlib.suppress(ApiError):
            held = await self._api.find(f"{self._path}/{LEASE_NAME}")
            if held is not None and held["spec"].get("holderIdentity") == self._identity:
                version = held["metadata"]["resourceVersion"]
                await self._api.patch(
                    f"{self._path}/{LEASE_NAME}",
                    {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": ""}},
                )

    async def _renew(self) -> bool:
        held = await self._api.find(f"{self._path}/{LEASE_NAME}")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": now,
        }
        try:
            if held is None:
                await self._api.create(
                    self._path,
                    {
                        "apiVersion": "coordination.k8s.io/v1",
                        "kind": "Lease",
                        "metadata": {"name": LEASE_NAME, "labels": {"loam.dev/lease": "operator"}},
                        "spec": {**spec, "acquireTime": now},
                    },
                )
            elif self._may_take(held["spec"]):
                version = held["metadata"]["resourceVersion"]
                await self._api.patch(
                    f"{self._path}/{LEASE_NAME}",
                    {"metadata": {"resourceVersion": version}, "spec": spec},
                )
            else:
                return False
        except ApiError as error:
            if error.status == 409:  # another one was faster
                return False
            raise
        return True

    def _may_take(self, spec: dict[str, object]) -> bool:
        """By how long the holder's entry stands unchanged on this process's own clock.

        Two machines' clocks may differ, so the time in the entry is not compared with ours.
        """
        holder, renewed = str(spec.get("holderIdentity") or ""), str(spec.get("renewTime") or "")
        if holder in ("", self._identity) or parse_time(renewed) is None:
            return True
        if self._seen[0] != renewed:
            self._seen = (renewed, self._clock())
        return self._clock() - self._seen[1] > LEASE_SECONDS
