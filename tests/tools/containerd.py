"""containerd for the test node: images are kept between runs, containers never."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tests.tools.node_network import run_command
from tests.tools.processes import Processes
from tests.tools.waiting import wait_until

NAMESPACE = "k8s.io"  # where the kubelet looks
PAUSE_IMAGE = "localhost/pause:1"
CNI_PLUGINS = Path("/usr/lib/cni")
START_TIMEOUT_SECONDS = 30


class Containerd:
    """Starts containerd, and ends whatever runs in it.

    Attributes:
        socket: where the kubelet finds it.
        root: images and their unpacked layers, kept between runs.
    """

    def __init__(self, root: Path, state: Path, cni_folder: Path) -> None:
        self.root = root
        self.socket = state / "containerd.sock"
        self._state = state
        self._cni_folder = cni_folder

    def start(self, processes: Processes) -> None:
        """Start it; return once it answers."""
        self._state.mkdir(parents=True, exist_ok=True)
        settings = self._state / "containerd.toml"
        settings.write_text(self._render_settings(), encoding="utf-8")
        processes.start("containerd", ["containerd", "--config", settings])
        processes.wait_until("containerd", self._answers, START_TIMEOUT_SECONDS)

    def call(self, *arguments: str) -> str:
        """Run `ctr`; its output.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        return run_command(*self._build_command(*arguments))

    def import_image(self, write_archive: Callable[[IO[bytes]], None]) -> None:
        """Take an image in, from an archive that is never on the disk.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        command = self._build_command("images", "import", "-")
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            assert process.stdin
            assert process.stderr
            with contextlib.suppress(BrokenPipeError), process.stdin as archive:
                write_archive(archive)
            said = process.stderr.read().decode(errors="replace")
        if process.returncode:
            raise RuntimeError(f"`{' '.join(command)}` failed: {said.strip()}")

    def find_blob(self, digest: str) -> Path:
        """Where it keeps a part of an image, by the hexadecimal digits of its SHA-256."""
        return self.root / "io.containerd.content.v1.content" / "blobs" / "sha256" / digest

    def list_images(self) -> set[str]:
        """Names of the images it has, whole and unpacked."""
        return set(self.call("images", "list", "-q").split())

    def remove_containers(self) -> None:
        """Kill and forget every container, so that nothing outlives the test run."""
        for task in self.call("tasks", "list", "-q").split():
            with contextlib.suppress(RuntimeError):  # it may end by itself just now
                self.call("tasks", "kill", "--signal", "SIGKILL", task)
        for container in self.call("containers", "list", "-q").split():
            self._remove(container)

    def end_shims(self) -> None:
        """Kill the containers' helpers that a killed containerd left behind."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0")
                if b"containerd-shim" in words[0] and os.fsencode(self.socket) in words:
                    os.kill(int(process.name), signal.SIGKILL)

    def _remove(self, container: str) -> None:
        def is_gone() -> bool:
            with contextlib.suppress(RuntimeError):
                self.call("tasks", "delete", "--force", container)
            with contextlib.suppress(RuntimeError):
                self.call("containers", "delete", container)
            return container not in self.call("containers", "list", "-q").split()

        wait_until(is_gone, f"the end of container {container}")

    def _build_command(self, *arguments: str) -> list[str]:
        return ["ctr", "--address", str(self.socket), "--namespace", NAMESPACE, *arguments]

    def _answers(self) -> bool:
        try:
            self.call("version")
        except RuntimeError:
            return False
        return True

    def _render_settings(self) -> str:
        return f"""\
version = 2
root = "{self.root}"
state = "{self._state / "containerd"}"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt",
]
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Root in a container may lack the right to lower a process's out-of-memory score.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{self._cni_folder}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""
