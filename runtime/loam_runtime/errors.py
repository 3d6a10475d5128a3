"""The errors a user can meet, each with the exit code that classifies it and the way out.

A stage raises the most specific of these; third-party exceptions are wrapped where they
enter (`raise StorageError(...) from exc`). Anything else that escapes is a bug in Loam.
"""

from __future__ import annotations

from collections.abc import Mapping

from loam_api.exits import ExitCode


class LoamError(Exception):
    """Base of all expected failures.

    Args:
        message: what is wrong and where (field path, file, row), without secrets.
        remedy: what the reader should do next, one sentence.

    Attributes:
        spent_cost: what the run's teacher had cost by then; None where that is not known.
        spent_requests, spent_tokens: what it had been asked for; 0 where that is not known.
    """

    exit_code = ExitCode.UNKNOWN
    spent_cost: float | None = None
    spent_requests: int = 0
    spent_tokens: int = 0

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def note_spending(self, usage: Mapping[str, float]) -> None:
        """Remember what the run had spent by then, over all its starts (`spent_*`)."""
        self.spent_cost = usage.get("spent_cost")
        self.spent_requests = int(usage.get("spent_requests", 0))
        self.spent_tokens = int(usage.get("spent_tokens", 0))

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def __reduce__(self):
        # Errors cross process boundaries (Ray); the default would lose the keyword.
        return (_rebuild, (type(self), self.message, self.remedy), self.__dict__)


def _rebuild(kind: type[LoamError], message: str, remedy: str) -> LoamError:
    return kind(message, remedy=remedy)


class InputError(LoamError):
    """Data, model or output that cannot be used as it is."""

    exit_code = ExitCode.BAD_INPUT


class CredentialsError(LoamError):
    """Access refused: a missing or wrong key, bucket or secret."""

    exit_code = ExitCode.BAD_CREDENTIALS


class TeacherError(LoamError):
    """The teacher is down, refuses, or answers nothing usable."""

    exit_code = ExitCode.TEACHER_FAILED


class BudgetError(LoamError):
    """The synthesis budget is spent."""

    exit_code = ExitCode.BUDGET_SPENT


class OutOfMemoryError(LoamError):
    """The device has too little memory even for one example."""

    exit_code = ExitCode.OUT_OF_MEMORY


class DivergenceError(LoamError):
    """Non-finite loss or weights."""

    exit_code = ExitCode.DIVERGED


class AwaitsReviewError(LoamError):
    """A person has to look at the synthetic rows first: no failure, but the end of this start."""

    exit_code = ExitCode.AWAITS_REVIEW


class StorageError(LoamError):
    """A store that failed after all retries; the same command may succeed later."""


class WorkersLostError(LoamError):
    """Workers were lost again and again, with nothing stored in between."""

    exit_code = ExitCode.WORKERS_LOST


class FencedError(LoamError):
    """Another writer holds this run's prefix, or has taken it over."""


class RunTakenError(FencedError):
    """Another job makes the same run, under another name."""

    exit_code = ExitCode.RUN_TAKEN
