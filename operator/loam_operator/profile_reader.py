"""The FineTuneProfiles as they are now: read when a job has to be judged, never remembered."""

from __future__ import annotations

import asyncio

from loam_operator.api import Api
from loam_operator.observed import ProfileView
from loam_operator.views import view_profile

_PATH = "/apis/loam.dev/v1alpha1/finetuneprofiles"


class ProfileReader:
    """Those who ask at the same time share one list."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = asyncio.Lock()
        self._num_begun = 0
        self._last: tuple[int, tuple[ProfileView, ...]] = (0, ())

    async def read(self) -> tuple[ProfileView, ...]:
        """All profiles by name, from a list that began after the call: what was applied before a
        job that is known already is in it.

        Raises:
            ApiError: they cannot be listed.
        """
        num_before = self._num_begun
        async with self._lock:
            number, found = self._last
            if number > num_before:
                return found
            self._num_begun = number = self._num_begun + 1
            found = tuple([view_profile(raw) async for raw in self._api.list(_PATH)])
            self._last = number, found
            return found
