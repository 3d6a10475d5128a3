"""The test node's network: a bridge for its pods, and no trace of it afterwards."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

BRIDGE = "loam0"
GATEWAY = "10.244.0.1"
PODS = "10.244.0.0/16"
CNI_NETWORK = "loam-e2e"
CNI_RESULTS = Path("/var/lib/cni/results")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
# kube-proxy, the kubelet and the CNI plugins name their chains so.
CHAIN_MARKS = ("KUBE-", "CNI-")
# Rules may be in either of the kernel's two tables, whichever a program's iptables writes to.
BACK_ENDS = ("iptables-legacy", "iptables-nft")


class NodeNetwork:
    """The bridge, the CNI configuration that puts pods on it, and the kernel's forwarding."""

    def __init__(self, folder: Path) -> None:
        self.cni_folder = folder / "cni"
        self._addresses = folder / "addresses"
        self._forwarding = FORWARDING.read_text()

    def start(self) -> None:
        """Create the bridge; its address is the node's own.

        Raises:
            RuntimeError: `ip` refused; with what it said.
        """
        run_command("ip", "link", "add", BRIDGE, "type", "bridge")
        run_command("ip", "address", "add", f"{GATEWAY}/16", "dev", BRIDGE)
        run_command("ip", "link", "set", BRIDGE, "up")
        FORWARDING.write_text("1")
        self.cni_folder.mkdir(parents=True)
        settings = json.dumps(self._describe_network())
        (self.cni_folder / "10-loam.conflist").write_text(settings, encoding="utf-8")

    def remove(self) -> None:
        """Remove the bridge and all rules; also those of a test run that was killed."""
        if Path(f"/sys/class/net/{BRIDGE}").exists():
            run_command("ip", "link", "delete", BRIDGE)
        for result in CNI_RESULTS.glob(f"{CNI_NETWORK}-*"):
            result.unlink()
        for back_end in BACK_ENDS:
            if shutil.which(f"{back_end}-save"):
                _remove_chains(back_end)
        FORWARDING.write_text(self._forwarding)

    def _describe_network(self) -> dict[str, object]:
        addresses = {
            "type": "host-local",
            "ranges": [[{"subnet": PODS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(self._addresses),
        }
        bridge = {
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": True,
            "hairpinMode": True,
            "ipam": addresses,
        }
        return {"cniVersion": "0.4.0", "name": CNI_NETWORK, "plugins": [bridge]}


def run_command(*command: str, stdin: str = "") -> str:
    """Run a program of the system; its output.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


def _remove_chains(back_end: str) -> None:
    rules = run_command(f"{back_end}-save").splitlines(keepends=True)
    kept = [rule for rule in rules if not any(mark in rule for mark in CHAIN_MARKS)]
    if kept != rules:
        run_command(f"{back_end}-restore", stdin="".join(kept))
