"""A whole Kubernetes node for the e2e tests: what `kubectl apply` does here, it does anywhere.

    with run_node() as node: ...      # as root, on a machine that runs no other Kubernetes

The control plane with all its controllers, a scheduler, containerd, kubelet, kube-proxy,
CoreDNS, and KubeRay's operator as a pod. Images are kept between runs in Loam's cache folder;
all else is gone when the block ends or, where the run was killed, when the next one starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from kubernetes import client, utils
from tests.tools.build_tools import build_tool, find_kuberay_crds
from tests.tools.containerd import Containerd
from tests.tools.control_plane import ControlPlane
from tests.tools.group_kill import GroupKill
from tests.tools.images import ImageBuilder
from tests.tools.node_check import find_obstacles
from tests.tools.node_network import GATEWAY, PODS, NodeNetwork, run_command
from tests.tools.node_pods import build_kuberay
from tests.tools.processes import find_free_port
from tests.tools.waiting import wait_until

from loam_runtime.storage.cache import cache_dir

NODE_NAME = "loam-node"
PROGRAMS = (
    *("buildah", "conntrack", "containerd", "ctr", "gcc"),
    *("ip", "iptables", "mmdebstrap", "runc"),
)
START_TIMEOUT_SECONDS = 300
CLUSTER_DOMAIN = "cluster.local"
GPU = "nvidia.com/gpu"


class Node:
    """Starts and ends a node.

    Attributes:
        control_plane: its API server, with an administrator's client.
        images: builds images and hands them to this node.
    """

    def __init__(self, home: Path) -> None:
        """
        Args:
            home: `containerd/` in it holds the images and stays; `run/` goes with the node.
        """
        self._folder = home / "run"
        self._network = NodeNetwork(self._folder)
        self._containerd = Containerd(
            home / "containerd", self._folder / "state", self._network.cni_folder
        )
        self._group_kill = GroupKill()
        self.images = ImageBuilder(self._containerd)

    def start(self) -> None:
        """Bring all up; return once KubeRay's operator runs.

        Raises:
            RuntimeError: a part did not start; with the end of its log.
        """
        self.remove_leftovers()
        self._folder.mkdir(parents=True)
        self._network.start()
        self.control_plane = ControlPlane(self._folder / "control-plane", GATEWAY, ("*",))
        self.control_plane.start(find_kuberay_crds())
        self._processes = self.control_plane.processes
        self._containerd.start(self._processes)
        self.images.provide_pause()
        self._start_parts()
        self._group_kill.start()
        self._processes.wait_until("kubelet", self._is_ready, START_TIMEOUT_SECONDS)
        self._start_kuberay()

    def stop(self) -> None:
        """End all, containers included."""
        self._group_kill.stop()
        if hasattr(self, "control_plane"):
            # First those that would start containers anew.
            for name in ("kubelet", "kube-proxy"):
                with contextlib.suppress(KeyError):
                    self._processes.kill(name)
            with contextlib.suppress(RuntimeError):
                self._containerd.remove_containers()
            self.control_plane.stop()
        self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """Remove what a node leaves in the system; also one whose test run was killed."""
        self._containerd.end_shims()
        _unmount_below(self._folder)
        _remove_control_groups()
        self._network.remove()
        shutil.rmtree(self._folder, ignore_errors=True)

    def set_gpus(self, num_gpus: int) -> None:
        """Let so many GPUs be scheduled, without there being one."""
        patch = [{"op": "add", "path": f"/status/capacity/{GPU.replace('/', '~1')}"}]
        patch[0]["value"] = str(num_gpus)
        client.CoreV1Api(self.control_plane.client).patch_node_status(NODE_NAME, patch)

    def _start_parts(self) -> None:
        kubernetes = build_tool("kubernetes")
        kubeconfig = self.control_plane.kubeconfig
        self._processes.start(
            "kube-scheduler",
            [
                *(kubernetes, "kube-scheduler", f"--kubeconfig={kubeconfig}"),
                *("--leader-elect=false", "--secure-port=0"),
            ],
        )
        self._processes.start(
            "kubelet",
            [
                *(kubernetes, "kubelet", f"--config={self._write_kubelet_settings()}"),
                *(f"--kubeconfig={kubeconfig}", f"--hostname-override={NODE_NAME}"),
                *(f"--node-ip={GATEWAY}", f"--root-dir={self._folder / 'kubelet'}"),
            ],
        )
        self._processes.start(
            "kube-proxy",
            [
                *(kubernetes, "kube-proxy", f"--kubeconfig={kubeconfig}"),
                *("--proxy-mode=iptables", f"--cluster-cidr={PODS}"),
                # Else a pod's answer to its neighbour would pass the address translation by.
                "--masquerade-all",
                *(f"--hostname-override={NODE_NAME}", "--healthz-bind-address="),
                f"--metrics-bind-address=127.0.0.1:{find_free_port()}",
            ],
        )
        self._processes.start("coredns", [build_tool("coredns"), "-conf", self._write_corefile()])

    def _start_kuberay(self) -> None:
        image = self.images.provide_manager("kuberay")
        for document in build_kuberay(image):
            utils.create_from_dict(self.control_plane.client, document)
        apps = client.AppsV1Api(self.control_plane.client)
        wait_until(
            lambda: apps.read_namespaced_deployment("kuberay", "kuberay").status.ready_replicas,
            "KubeRay's operator",
            START_TIMEOUT_SECONDS,
        )

    def _is_ready(self) -> bool:
        nodes = client.CoreV1Api(self.control_plane.client).list_node().items
        return any(
            condition.type == "Ready" and condition.status == "True"
            for node in nodes
            for condition in node.status.conditions or []
        )

    def _write_kubelet_settings(self) -> Path:
        authority = str(self.control_plane.authority.certificate)
        settings = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": GATEWAY,
            "healthzPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": authority},
            },
            "authorization": {"mode": "Webhook"},
            "clusterDNS": [GATEWAY],
            "clusterDomain": CLUSTER_DOMAIN,
            "containerRuntimeEndpoint": f"unix://{self._containerd.socket}",
            "failSwapOn": False,
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "enforceNodeAllocatable": ["pods"],
            # A developer's disk is often full to nine tenths: no reason to evict a test's pods.
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "resolvConf": "",
            "podLogsDir": str(self._folder / "pod-logs"),
        }
        path = self._folder / "kubelet.json"
        path.write_text(json.dumps(settings), encoding="utf-8")
        return path

    def _write_corefile(self) -> Path:
        path = self._folder / "Corefile"
        path.write_text(
            f"""\
.:53 {{
  bind {GATEWAY}
  errors
  kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
    kubeconfig {self.control_plane.kubeconfig}
    pods insecure
  }}
  cache 5
}}
""",
            encoding="utf-8",
        )
        return path


@contextlib.contextmanager
def run_node() -> Iterator[Node]:
    """A node that is ready, until the block ends. Only one at a time runs on a machine.

    Raises:
        SystemExit: this machine cannot be a node; says what it lacks.
    """
    require_node()
    home = cache_dir() / "node"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        node = Node(home)
        try:
            node.start()
            yield node
        finally:
            node.stop()


def require_node() -> None:
    """Check that this machine can be a node.

    Raises:
        SystemExit: it cannot; says what it lacks.
    """
    obstacles = find_obstacles()
    if obstacles:
        raise SystemExit("\n".join(["The e2e tests start a Kubernetes node:", *obstacles]))
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise SystemExit(
            f"The e2e tests start a Kubernetes node, and this machine lacks {', '.join(missing)}. "
            "On Debian, tools/node_packages.sh installs all that is needed."
        )


def _unmount_below(folder: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted(mounts, reverse=True):
        if mount.startswith(f"{folder}/"):
            run_command("umount", "--lazy", mount)


def _remove_control_groups() -> None:
    for group in Path("/sys/fs/cgroup").glob("**/kubepods*"):
        for child in [*sorted(group.rglob("*/"), reverse=True), group]:
            with contextlib.suppress(OSError):  # some went with their parent, or are not ours
                child.rmdir()
