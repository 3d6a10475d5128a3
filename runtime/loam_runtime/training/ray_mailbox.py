"""Between the driver and its workers. Imports little: it runs in a process of its own."""

from __future__ import annotations

from typing import Any

import ray


@ray.remote(num_cpus=0)
class Mailbox:
    """Events one way, the wish to stop the other way; outlives workers that die."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._failure: BaseException | None = None
        self._is_stop_requested = False

    def post(self, event: dict[str, Any]) -> None:
        """Leave an event for the driver."""
        self._events.append(event)

    def take(self) -> list[dict[str, Any]]:
        """All events since the last call."""
        events, self._events = self._events, []
        return events

    def fail(self, failure: BaseException) -> None:
        """Note an error that no restart heals; the first one counts, later ones follow from it.

        Ray restarts all workers after any exception: restarted ones ask here first, and return.
        """
        self._failure = self._failure or failure

    def get_failure(self) -> BaseException | None:
        """The error of `fail`, if there was one."""
        return self._failure

    def request_stop(self) -> None:
        """Ask the workers to save a checkpoint and end."""
        self._is_stop_requested = True

    def is_stop_requested(self) -> bool:
        """Whether `request_stop` was called."""
        return self._is_stop_requested
