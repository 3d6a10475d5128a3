"""Why one attempt at a teacher failed, said so that the client knows what to do next."""

from __future__ import annotations

from loam_runtime.errors import LoamError


class AttemptFailed(Exception):
    """An attempt that may succeed when made again.

    Args:
        reason: short and without secrets, for logs and the final error.
        retry_after_seconds: what the endpoint asked for; 0 where it did not say.
        is_rate_limit: the endpoint refused because of load. Says nothing about the request, so it
            does not use up one of its tries.
        is_charged: whether the endpoint may have worked on the request (and will bill it).
        is_up: the endpoint works on other requests meanwhile, so this is no sign of an outage.
    """

    def __init__(
        self,
        reason: str,
        *,
        retry_after_seconds: float = 0.0,
        is_rate_limit: bool = False,
        is_charged: bool = True,
        is_up: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds
        self.is_rate_limit = is_rate_limit
        self.is_charged = is_charged
        self.is_up = is_up


class TeacherRefused(Exception):
    """A failure that no repetition cures.

    Args:
        error: what the user is told.
        is_final: other requests will fail as well; False where the fault may be this one's alone.
    """

    def __init__(self, error: LoamError, *, is_final: bool = True) -> None:
        super().__init__(str(error))
        self.error = error
        self.is_final = is_final
