"""Builds the servers the tests run against, once per version, into Loam's cache folder.

    python tests/tools/build_tools.py      # prints the path of each binary

The version is pinned by the go.mod and go.sum beside this file; a finished build is found
again by the hash of go.sum, also with the network gone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from loam_runtime.storage.cache import cache_dir

TOOLS = {"versitygw": "github.com/versity/versitygw/cmd/versitygw"}
BUILD_TIMEOUT_SECONDS = 900
GO_HINT = (
    "The tests run against a real S3 server, which is built from source once, and there is no "
    "`go` on the PATH. Install Go 1.25 or later and try again."
)


def build_tool(name: str) -> Path:
    """The binary of a tool of `TOOLS`, built unless this very version is cached.

    Raises:
        SystemExit: Go is missing, or the build failed; the message says which.
    """
    source = Path(__file__).parent / name
    version = hashlib.sha256((source / "go.sum").read_bytes()).hexdigest()[:16]
    binary = cache_dir() / "tools" / f"{name}-{version}" / name
    if not binary.exists():
        if shutil.which("go") is None:
            raise SystemExit(GO_HINT)
        binary.parent.mkdir(parents=True, exist_ok=True)
        _compile(source, TOOLS[name], binary)
    return binary


def _compile(source: Path, package: str, binary: Path) -> None:
    # Built aside and renamed, so that two test runs at once never see half a binary.
    with tempfile.TemporaryDirectory(dir=binary.parent) as folder:
        unfinished = Path(folder) / binary.name
        command = ["go", "build", "-trimpath", "-o", str(unfinished), package]
        print(f"Building {binary.name} (about a minute, once) ...", file=sys.stderr)
        done = subprocess.run(command, cwd=source, timeout=BUILD_TIMEOUT_SECONDS, check=False)
        if done.returncode:
            raise SystemExit(f"`{' '.join(command)}` failed in {source}.")
        os.replace(unfinished, binary)


if __name__ == "__main__":
    for tool in TOOLS:
        print(build_tool(tool))
