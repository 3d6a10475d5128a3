"""Helm, as a platform team runs it."""

from __future__ import annotations

import subprocess

from tests.tools.build_tools import build_tool

TIMEOUT_SECONDS = 300


def try_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it, whatever comes of it."""
    command = [str(build_tool("helm")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)


def run_helm(*arguments: str) -> str:
    """What it prints.

    Raises:
        AssertionError: it failed; with what it said.
    """
    done = try_helm(*arguments)
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout
