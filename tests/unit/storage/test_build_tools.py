"""The tests' own servers: what a machine without Go is told."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.tools import build_tools, node_check


def test_a_machine_without_go_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test` without Go must end with what to install, not with a traceback."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="Install Go"):
        build_tools.build_tool("versitygw")


SERVERS = ("versitygw", "kubernetes", "kubectl", "helm")


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a PATH with the programs of any machine, and so without Go."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "cat", "cut", "make", "sha256sum"):
        (programs / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(programs))
    return programs


def run_make(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(build_tools.__file__).parents[2]
    return subprocess.run(["make", "-C", root, *arguments], capture_output=True, text=True)


def test_go_is_looked_for_before_anything_is_installed(bare_machine: Path) -> None:
    """Gigabytes and many minutes of setup for tests that then cannot run are worse than a
    sentence; who has the servers already needs no Go."""
    planned = run_make("--dry-run", "--always-make", "test").stdout
    assert 0 <= planned.index("tools/find_go.sh") < planned.index("tools/setup.sh")
    refused = run_make("find-go")
    assert refused.returncode != 0
    assert build_tools.GO_HINT in refused.stderr
    for name in SERVERS:
        binary = build_tools._find_home(name) / name
        binary.parent.mkdir(parents=True)
        binary.touch()
    assert run_make("find-go").returncode == 0


def test_go_on_the_path_is_enough(bare_machine: Path) -> None:
    """What is not there yet is built with it."""
    (bare_machine / "go").write_text("#!/bin/sh\n")
    (bare_machine / "go").chmod(0o755)
    assert run_make("find-go").returncode == 0


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
