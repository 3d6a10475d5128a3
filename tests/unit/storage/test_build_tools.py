"""The tests' own servers: what a machine without Go is told."""

from __future__ import annotations

import pytest
from tests.tools import build_tools


def test_a_machine_without_go_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test` without Go must end with what to install, not with a traceback."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="Install Go"):
        build_tools.build_tool("versitygw")
