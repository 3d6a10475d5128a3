"""The command line of somebody who works with a cluster: kubectl, helm and loam in a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.tools.build_tools import build_tool
from tests.tools.control_plane import ROOT

TIMEOUT_SECONDS = 200


class CommandLine:
    """A shell in a folder that looks like a clone of Loam, and may hold more files.

    Attributes:
        folder: where the commands run.

    Args:
        folder: new or empty.
        kubeconfig: whose rights the commands have.
        namespace: that they are about where they name none.
    """

    def __init__(self, folder: Path, kubeconfig: Path, namespace: str) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir(parents=True)
        for tool in ("kubectl", "helm"):
            (programs / tool).symlink_to(build_tool(tool))
        loam = programs / "loam"
        body = "from loam_runtime.cli import main; main()"
        loam.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{body}' \"$@\"\n")
        loam.chmod(0o755)
        for name in ("charts", "docs"):
            (folder / name).symlink_to(ROOT / name)
        document = json.loads(kubeconfig.read_text("utf-8"))
        document["contexts"][0]["context"]["namespace"] = namespace
        own = folder / "kubeconfig"
        own.write_text(json.dumps(document), encoding="utf-8")
        self._environment = {
            **{name: value for name, value in os.environ.items() if "KUBE" not in name},
            "PATH": f"{programs}:/usr/bin:/bin",
            "KUBECONFIG": str(own),
            "HOME": str(folder),
        }

    def run(self, command: str, *, code: int = 0, given: str = "") -> str:
        """What a command prints, on both outputs.

        Args:
            code: that it has to end with.
            given: its standard input.
        """
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self._environment,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        assert done.returncode == code, f"{command}\n{done.stdout}"
        return done.stdout
