"""Loam on the test node, installed as a platform team installs it: by Helm, CRDs included."""

from __future__ import annotations

from tests.tools.control_plane import ROOT
from tests.tools.helm_tool import run_helm
from tests.tools.node import Node


def install_release(node: Node) -> None:
    """Build both images, hand them to the node, and install the chart; return when it is ready."""
    images = {name: node.images.provide_loam(name) for name in ("runtime", "operator")}
    settings = [
        f"images.{name}.{key}={value}"
        for name, image in images.items()
        for key, value in zip(
            ("repository", "tag", "pullPolicy"), (*image.rsplit(":", 1), "Never"), strict=True
        )
    ]
    run_helm(
        *("install", "loam", str(ROOT / "charts" / "loam"), "--create-namespace"),
        *("--namespace", "loam-system", "--wait", "--timeout", "120s"),
        *("--kubeconfig", str(node.control_plane.kubeconfig)),
        *(part for setting in settings for part in ("--set-string", setting)),
    )
