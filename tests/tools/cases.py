"""How many cases a test of a large input space takes: few each time, many in `make test-full`."""

from __future__ import annotations

import os

SCALE = int(os.environ.get("LOAM_TEST_SCALE", "1"))


def count_cases(usual: int) -> int:
    """Cases of this run, where `usual` are enough for a change at a time."""
    return usual * SCALE
