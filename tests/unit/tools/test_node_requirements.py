"""What the e2e tests ask of a machine, and when an image is built anew."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.tools import node
from tests.tools.control_plane import ROOT
from tests.tools.images import Recipe

NOBODY = "65534"


def test_without_root_the_e2e_tests_fail_and_say_so():
    """Were they skipped, a green `make e2e` would mean nothing."""
    as_nobody = ["setpriv", "--reuid", NOBODY, "--clear-groups"] if os.geteuid() == 0 else []
    script = (ROOT / "tools" / "node_packages.sh").read_text("utf-8")
    done = subprocess.run([*as_nobody, "bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert "as root" in done.stderr


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch):
    """Half a node would end in a traceback from deep inside."""
    monkeypatch.setattr(node, "PROGRAMS", ("no-such-program",))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SystemExit, match=r"no-such-program.*node_packages\.sh"):
        node.require_node()


def test_an_image_is_named_by_its_content(tmp_path: Path):
    """A stale image would be tested in place of the code; an equal one must not be built again."""
    (tmp_path / "code" / "__pycache__").mkdir(parents=True)
    (tmp_path / "code" / "a.py").write_text("1")
    recipe = Recipe("x", tmp_path, ("code",))
    first = recipe.tagged_name
    (tmp_path / "code" / "__pycache__" / "a.pyc").write_text("compiled")
    assert recipe.tagged_name == first
    (tmp_path / "code" / "a.py").write_text("2")
    assert recipe.tagged_name != first
    assert Recipe("x", tmp_path, ("code",), target="runtime").tagged_name != recipe.tagged_name
