"""How an export fails."""

from __future__ import annotations

from loam_runtime.errors import LoamError


class ExportError(LoamError):
    """What was assembled is not what was trained, or not what was published."""
