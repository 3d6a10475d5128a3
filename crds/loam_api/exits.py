"""How a run ends: the process exit codes that `loam` returns and the operator reads.

One table for both sides, so that a pod's exit code and a laptop's mean the same thing.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every `loam` command and of every step's pod."""

    DONE = 0
    UNKNOWN = 1  # not classified, or a store that stayed down: worth one more try
    BAD_MANIFEST = 2
    BAD_INPUT = 10  # data, model or output that cannot be used as it is
    BAD_CREDENTIALS = 11  # access refused, or the key, bucket or secret is missing
    TEACHER_FAILED = 12
    BUDGET_SPENT = 13
    OUT_OF_MEMORY = 14
    DIVERGED = 15  # non-finite loss or weights
    AWAITS_REVIEW = 16  # a person has to look at the synthetic rows; then the same command again
    RUN_TAKEN = 17  # another job is writing this very run
    WORKERS_LOST = 18  # again and again, without a checkpoint in between
    INTERRUPTED = 130  # Ctrl-C or SIGTERM; the same command resumes
