"""The tests' own servers: what a machine without Go is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tools import build_tools, node_check


def test_a_machine_without_go_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test` without Go must end with what to install, not with a traceback."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="Install Go"):
        build_tools.build_tool("versitygw")


def test_a_machine_that_cannot_be_a_node_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """CI in a container would else end after half an hour of builds in a runtime's error."""
    monkeypatch.setattr(node_check.os, "geteuid", lambda: 1000)
    assert "root" in node_check.find_obstacles()[0]
    monkeypatch.setattr(node_check.os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(node_check, "FORWARDING", tmp_path / "missing")
    said = "\n".join(node_check.find_obstacles())
    assert "namespaces" in said
    assert "missing cannot be written" in said
