"""Builds the servers the tests run against, once per version, into Loam's cache folder.

    python tests/tools/build_tools.py [NAME ...]      # prints the path of each binary

The versions are pinned by the go.mod and go.sum of the folders beside this file, one folder a
tool, because one shared go.mod would pull their versions apart. A finished build is found
again by the hash of its go.sum and own source, also with the network gone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from loam_runtime.storage.cache import cache_dir

SOURCES = Path(__file__).parent
KUBERAY = "github.com/ray-project/kuberay/ray-operator"
KUEUE = "sigs.k8s.io/kueue"
# Folder -> what `go build` is given; "." is a program of our own.
TOOLS = {
    "coredns": "github.com/coredns/coredns",
    "helm": "helm.sh/helm/v4/cmd/helm",
    "kuberay": KUBERAY,
    "kueue": f"{KUEUE}/cmd/kueue",
    "kubectl": ".",
    "kubernetes": ".",
    "versitygw": "github.com/versity/versitygw/cmd/versitygw",
}
# Without it the API server calls itself v0.0.0, and clients refuse it as too old.
_RELEASE = "-X k8s.io/component-base/version.gitVersion=v1.34.4"
LINK_FLAGS = {"kubectl": _RELEASE, "kubernetes": _RELEASE}
BUILD_TIMEOUT_SECONDS = 2400
GO_HINT = (
    "The tests run against real servers (S3, Kubernetes), which are built from source once, and "
    "there is no `go` on the PATH. Install Go 1.26 or later and try again."
)


def build_tool(name: str) -> Path:
    """The binary of a tool of `TOOLS`, built unless this very version is cached.

    Raises:
        SystemExit: Go is missing, or the build failed; the message says which.
    """
    binary = _find_home(name) / name
    if not binary.exists():
        _require_go()
        binary.parent.mkdir(parents=True, exist_ok=True)
        _compile(name, binary)
    return binary


def find_kuberay_crds() -> Path:
    """The folder of KubeRay's CRDs, of the version that is built here.

    Raises:
        SystemExit: Go is missing, or the module cannot be had.
    """
    return _provide_folder("kuberay", "crds", KUBERAY, "config/crd/bases")


def find_kueue_chart() -> Path:
    """The folder of Kueue's own Helm chart, of the version that is built here.

    Raises:
        SystemExit: Go is missing, or the module cannot be had.
    """
    return _provide_folder("kueue", "chart", KUEUE, "charts/kueue")


def _provide_folder(tool: str, name: str, module: str, source: str) -> Path:
    """A folder of a tool's module, copied beside its binary once."""
    folder = _find_home(tool) / name
    if not folder.exists():
        _require_go()
        answer = json.loads(_run_go(tool, "mod", "download", "-json", module))
        _copy_whole(Path(answer["Dir"]) / source, folder)
    return folder


def _find_home(name: str) -> Path:
    digest = hashlib.sha256((SOURCES / name / "go.sum").read_bytes())
    for file in sorted((SOURCES / name).glob("*.go")):
        digest.update(file.read_bytes())
    return cache_dir() / "tools" / f"{name}-{digest.hexdigest()[:16]}"


def _require_go() -> None:
    if shutil.which("go") is None:
        raise SystemExit(GO_HINT)


def _compile(name: str, binary: Path) -> None:
    # Built aside and renamed, so that two test runs at once never see half a binary.
    with tempfile.TemporaryDirectory(dir=binary.parent) as folder:
        unfinished = Path(folder) / binary.name
        link_flags = f"-s -w {LINK_FLAGS.get(name, '')}".strip()
        print(f"Building {name} (one to ten minutes, once) ...", file=sys.stderr)
        _run_go(
            name, "build", "-trimpath", "-ldflags", link_flags, "-o", str(unfinished), TOOLS[name]
        )
        os.replace(unfinished, binary)


def _copy_whole(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        # copyfile: files of the module cache are read-only, and a cache must be removable.
        copy = shutil.copytree(source, Path(folder) / "copy", copy_function=shutil.copyfile)
        copy.chmod(0o755)
        if not target.exists():
            os.rename(copy, target)


def _run_go(name: str, *arguments: str) -> str:
    """Run `go` in a tool's folder; its standard output."""
    done = subprocess.run(
        ["go", *arguments],
        cwd=SOURCES / name,
        # Static: the same binary also runs in an image made FROM scratch.
        env={**os.environ, "CGO_ENABLED": "0"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=BUILD_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"`go {' '.join(arguments)}` failed in {SOURCES / name}.")
    return done.stdout


if __name__ == "__main__":
    for tool in sys.argv[1:] or TOOLS:
        print(build_tool(tool))
