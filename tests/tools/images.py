"""Images for the test node, built without a Docker engine and kept in Loam's cache folder.

An image is named by the hash of all that goes into it. What containerd has by that name is not
built again; of what it has not, only the layers that it lacks are handed to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from tests.tools.build_tools import build_tool
from tests.tools.containerd import PAUSE_IMAGE, Containerd

from loam_runtime.storage.cache import cache_dir

ROOT = Path(__file__).parents[2]
TOOLS = Path(__file__).parent
BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv", "procps")
DEBIAN_RELEASE = "bookworm"
CERTIFICATES = Path("/etc/ssl/certs")
SKIPPED = ("__pycache__", ".egg-info")

_REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an image is made.

    Attributes:
        name: of its repository; the tag is the hash.
        context: folder of the Dockerfile and of what it copies.
        inputs: files and folders that shape it, relative to the context.
        packages: the one of them that names its packages, which are most of its size.
        target: of the Dockerfile; "" for its last.
        arguments: build arguments.
        volumes: host path by the path where the build sees it.
    """

    name: str
    context: Path
    inputs: tuple[str, ...]
    packages: str = ""
    target: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    volumes: dict[Path, str] = field(default_factory=dict)

    @property
    def tagged_name(self) -> str:
        """The image's name, of this very content."""
        digest = hashlib.sha256(f"{self.target} {sorted(self.arguments.items())}".encode())
        for file in _list_files(self.context, self.inputs):
            digest.update(str(file.relative_to(self.context)).encode())
            digest.update(file.read_bytes())
        return f"{self.family}{digest.hexdigest()[:16]}"

    @property
    def family(self) -> str:
        """What the names of all images with these packages begin with."""
        packages = (self.context / self.packages).read_text("utf-8") if self.packages else ""
        return f"localhost/{self.name}:{_hash_words(packages)[:8]}-"


class ImageBuilder:
    """Builds images with buildah and hands them to a running containerd."""

    def __init__(self, containerd: Containerd) -> None:
        self._containerd = containerd
        self._home = cache_dir() / "images"

    def provide_pause(self) -> None:
        """The image that holds a pod's namespaces, by the name in containerd's settings."""
        if PAUSE_IMAGE in self._containerd.list_images():
            return
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "pause"
            _run("gcc", "-static", "-O2", "-o", program, TOOLS / "pause" / "pause.c")
            shutil.copy(TOOLS / "pause" / "Dockerfile", folder)
            recipe = Recipe("pause", Path(folder), ("pause", "Dockerfile"))
            self._build(recipe, PAUSE_IMAGE)
            self._import(PAUSE_IMAGE)

    def provide_manager(self, tool: str) -> str:
        """The image of a controller that is built here: "kuberay" or "kueue"; its name."""
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(build_tool(tool), Path(folder) / "manager")
            shutil.copy(TOOLS / "manager" / "Dockerfile", folder)
            return self.provide(Recipe(tool, Path(folder), ("manager", "Dockerfile")))

    def provide_loam(self, target: str) -> str:
        """Loam's own image of a target of the Dockerfile; its name."""
        recipe = Recipe(
            name=f"loam-{target}",
            context=ROOT,
            inputs=(
                "Dockerfile",
                "LICENSE",
                "README.md",
                "crds/loam_api",
                "operator",
                "pyproject.toml",
                f"requirements-{target}.txt",
                "requirements-uv.txt",
                "runtime",
            ),
            packages=f"requirements-{target}.txt",
            target=target,
            arguments={"BASE_IMAGE": self._provide_base()},
            # What this machine trusts, the build trusts: its network may have its own authority.
            volumes={CERTIFICATES: "/etc/ssl/certs:ro"},
        )
        return self.provide(recipe)

    def provide(self, recipe: Recipe) -> str:
        """Build an image and hand it over, unless it is there; its name.

        Older images of the same repository are given up: those with other packages first, for they
        have no layer to offer, and the disk may not have room for both.
        """
        name = recipe.tagged_name
        images = self._containerd.list_images()
        if name not in images:
            old = [one for one in images if one.startswith(f"localhost/{recipe.name}:")]
            self._give_up([one for one in old if not one.startswith(recipe.family)])
            started = time.monotonic()
            self._build(recipe, name)
            built = time.monotonic()
            size = self._import(name)
            print(
                f"{name}: {size / 1e6:.0f} MB, built in {built - started:.0f} s, "
                f"imported in {time.monotonic() - built:.0f} s",
                file=sys.stderr,
            )
            self._give_up([one for one in old if one.startswith(recipe.family)])
        return name

    def _give_up(self, names: Sequence[str]) -> None:
        """Remove images wherever they are: at containerd's, among the built ones, in the layout."""
        if not names:
            return
        self._containerd.call("images", "remove", "--sync", *names)
        self._buildah("rmi", "--force", *names, check=False)
        _trim_layout(self._home / "layout", self._containerd.list_images())

    def _provide_base(self) -> str:
        """A plain Debian with Python, from the machine's own package sources."""
        name = f"localhost/loam-base:{_hash_words(DEBIAN_RELEASE, *BASE_PACKAGES)}"
        if self._buildah("images", "-q", name, check=False):
            return name
        with tempfile.TemporaryDirectory() as folder:
            packages = f"--include={','.join(BASE_PACKAGES)}"
            system = Path(folder) / "system.tar"
            _run("mmdebstrap", "--quiet", "--variant=minbase", packages, DEBIAN_RELEASE, system)
            (Path(folder) / "Dockerfile").write_text("FROM scratch\nADD system.tar /\n")
            self._build(Recipe("base", Path(folder), ()), name)
        return name

    def _build(self, recipe: Recipe, name: str) -> None:
        print(f"Building {name} ...", file=sys.stderr)
        options = [f"--target={recipe.target}"] if recipe.target else []
        options += [f"--build-arg={key}={value}" for key, value in recipe.arguments.items()]
        options += [f"--volume={host}:{place}" for host, place in recipe.volumes.items()]
        # chroot: needs no container runtime, and no rights that root in a container lacks.
        self._buildah("bud", "--isolation=chroot", "--layers", *options, "-t", name, recipe.context)

    def _import(self, name: str) -> int:
        """Hand an image to containerd; its size in bytes."""
        layout = self._home / "layout"
        self._buildah("push", "-q", "--compression-level=1", name, f"oci:{layout}:{name}")
        blobs = layout / "blobs" / "sha256"
        manifest = _find_manifest(layout, name)
        content = json.loads((blobs / _strip(manifest["digest"])).read_text())
        digests = [
            _strip(part["digest"]) for part in (manifest, content["config"], *content["layers"])
        ]
        missing = [blobs / one for one in digests if not self._containerd.find_blob(one).exists()]
        self._containerd.import_image(partial(_write_archive, name, manifest, missing))
        for blob in (blobs / digest for digest in digests):
            # The next push looks for it here: one copy on the disk serves both.
            blob.unlink()
            os.link(self._containerd.find_blob(blob.name), blob)
        return sum(part["size"] for part in content["layers"])

    def _buildah(self, *arguments: str | Path, check: bool = True) -> str:
        storage = ["--root", self._home / "storage", "--runroot", self._home / "run"]
        scratch = self._home / "scratch"  # also of the cache of packages that builds share
        scratch.mkdir(parents=True, exist_ok=True)
        return _run("buildah", *storage, *arguments, check=check, env={"TMPDIR": str(scratch)})


def _strip(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _find_manifest(layout: Path, name: str) -> dict[str, Any]:
    manifests = json.loads((layout / "index.json").read_text())["manifests"]
    return next(one for one in manifests if _read_name(one) == name)


def _read_name(manifest: dict[str, Any]) -> str:
    """Of the image; "" for one whose name a later image has taken."""
    return str(manifest.get("annotations", {}).get(_REF_NAME, ""))


def _trim_layout(layout: Path, kept: Collection[str]) -> None:
    """Remove all images but these, and the blobs that none of these has."""
    file, blobs = layout / "index.json", layout / "blobs" / "sha256"
    index = json.loads(file.read_text("utf-8"))
    index["manifests"] = [one for one in index["manifests"] if _read_name(one) in kept]
    file.write_text(json.dumps(index), "utf-8")
    used = set()
    for manifest in index["manifests"]:
        content = json.loads((blobs / _strip(manifest["digest"])).read_text("utf-8"))
        used |= {part["digest"] for part in (manifest, content["config"], *content["layers"])}
    for blob in blobs.iterdir():
        if f"sha256:{blob.name}" not in used:
            blob.unlink()


def _write_archive(
    name: str, manifest: dict[str, Any], blobs: Sequence[Path], archive: IO[bytes]
) -> None:
    """An OCI archive of one image without the blobs that its reader has."""
    entry = {**manifest, "annotations": {"io.containerd.image.name": name}}
    index = {"schemaVersion": 2, "manifests": [entry]}
    with tarfile.open(fileobj=archive, mode="w|") as tar:
        for file, document in (
            ("oci-layout", {"imageLayoutVersion": "1.0.0"}),
            ("index.json", index),
        ):
            text = json.dumps(document).encode()
            member = tarfile.TarInfo(file)
            member.size = len(text)
            tar.addfile(member, BytesIO(text))
        for blob in blobs:
            tar.add(blob, f"blobs/sha256/{blob.name}")


def _list_files(context: Path, inputs: Sequence[str]) -> Iterator[Path]:
    for name in inputs:
        path = context / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (
            file
            for file in found
            if file.is_file() and not any(part.endswith(SKIPPED) for part in file.parts)
        )


def _hash_words(*words: str) -> str:
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]


def _run(*command: str | Path, check: bool = True, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and check:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        raise RuntimeError(f"`{' '.join(map(str, command))}` failed:\n{said}")
    return done.stdout
