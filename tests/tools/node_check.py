"""Whether this machine can be a Kubernetes node: asked of its kernel, before anything is built.

    python -m tests.tools.node_check       # exit 0, or 1 and what is in the way, one a line

Only what no package can bring is looked at; the programs are tools/node_packages.sh's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from loam_runtime.storage.cache import cache_dir

CONTROL_GROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "memory", "pids")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
# SIOCBRADDBR: needs no program of its own.
ADD_BRIDGE = "import fcntl, socket; fcntl.ioctl(socket.socket(), 0x89A0, b'loam-check')"


def find_obstacles() -> list[str]:
    """What keeps this machine from being a node, in words; empty where nothing does."""
    if os.geteuid() != 0:
        return ["only root may start containers: run `make e2e` as root"]
    checks: tuple[tuple[Callable[[], object], str], ...] = (
        (_unshare, "no new namespaces may be made: the container needs CAP_SYS_ADMIN"),
        (_add_bridge, "no network bridge can be made: CAP_NET_ADMIN or the kernel's is missing"),
        (_mount_overlay, f"no overlay can be mounted below {cache_dir()}: put LOAM_CACHE on ext4"),
        (_make_control_groups, f"no control group can be made below {CONTROL_GROUPS}"),
        (_write_forwarding, f"{FORWARDING} cannot be written, which pods' network needs"),
    )
    return list(_fail_in_turn(checks))


def _fail_in_turn(checks: tuple[tuple[Callable[[], object], str], ...]) -> Iterator[str]:
    for check, words in checks:
        try:
            check()
        except (OSError, subprocess.SubprocessError) as error:
            said = str(getattr(error, "stderr", None) or error).strip()
            yield f"{words} ({said.splitlines()[-1]})"


def _unshare(*command: str) -> None:
    """Run a command in namespaces of its own, which go with it."""
    subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", *(command or ("true",))],
        check=True,
        capture_output=True,
        text=True,
    )


def _add_bridge() -> None:
    _unshare(sys.executable, "-c", ADD_BRIDGE)


def _mount_overlay() -> None:
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:
        places = {name: Path(folder, name) for name in ("lower", "upper", "work", "merged")}
        for place in places.values():
            place.mkdir()
        options = "lowerdir={lower},upperdir={upper},workdir={work}".format(**places)
        _unshare("mount", "-t", "overlay", "overlay", "-o", options, str(places["merged"]))


def _make_control_groups() -> None:
    """With version 2 all controllers share a folder, with version 1 each has its own."""
    listed = CONTROL_GROUPS / "cgroup.controllers"
    if listed.exists():
        missing = set(CONTROLLERS) - set(listed.read_text().split())
        if missing:
            raise OSError(f"no controller {', '.join(sorted(missing))}")
    folders = [CONTROL_GROUPS] if listed.exists() else [CONTROL_GROUPS / c for c in CONTROLLERS]
    for folder in folders:
        group = folder / f"loam-check-{os.getpid()}"
        group.mkdir()
        group.rmdir()


def _write_forwarding() -> None:
    FORWARDING.write_text(FORWARDING.read_text())


if __name__ == "__main__":
    obstacles = find_obstacles()
    sys.exit("\n".join(obstacles) or 0)
