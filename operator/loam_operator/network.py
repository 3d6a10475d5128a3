"""The NetworkPolicy of a job: who may connect to its pods, and where they may connect to.

It is only as good as the cluster's network plug-in: one that does not know NetworkPolicies takes
it and does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loam_api.finetuneprofile import Egress
from loam_api.ports import METRICS_PORT
from loam_operator.children import build_metadata
from loam_operator.names import JOB_UID_LABEL, name_access
from loam_operator.observed import JobView
from loam_operator.settings import Settings

DASHBOARD_PORT = 8265  # which KubeRay asks for the state of the Ray job
RAY_METRICS_PORT = 8080  # KubeRay's choice
_DNS_PORT = 53
# Of all addresses, those that lead into the cluster, its network or its machines.
_NOT_PUBLIC = {
    "0.0.0.0/0": [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
    ],
    "::/0": ["::1/128", "fc00::/7", "fe80::/10"],
}

Manifest = dict[str, Any]


def build_network_policy(job: JobView, egress: Egress | None, settings: Settings) -> Manifest:
    """In from the job's own pods, from KubeRay and from monitoring; out as `egress` says."""
    own = {"matchLabels": {JOB_UID_LABEL: job.uid}}
    kuberay = {
        **_select_namespaces(settings.kuberay_namespaces),
        "podSelector": {"matchLabels": dict(settings.kuberay_pods)},
    }
    spec: Manifest = {
        "podSelector": own,
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [{"podSelector": own}]},
            {"from": [kuberay], "ports": [_build_port(DASHBOARD_PORT)]},
            {
                "from": [_select_namespaces(settings.monitoring_namespaces)],
                "ports": [_build_port(METRICS_PORT), _build_port(RAY_METRICS_PORT)],
            },
        ],
    }
    if egress is not None:
        spec["policyTypes"] = ["Ingress", "Egress"]
        spec["egress"] = _build_egress(own, egress)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": build_metadata(job, name_access(job.name)),
        "spec": spec,
    }


def _build_egress(own: Manifest, egress: Egress) -> list[Manifest]:
    dns = [_build_port(_DNS_PORT, protocol) for protocol in ("UDP", "TCP")]
    rules: list[Manifest] = [
        {"to": [{"podSelector": own}]},
        {"to": [_select_namespaces({})], "ports": dns},
    ]
    blocks: list[Manifest] = [{"cidr": cidr} for cidr in egress.cidrs]
    if egress.public:
        blocks += [{"cidr": cidr, "except": inner} for cidr, inner in _NOT_PUBLIC.items()]
    if blocks:
        rules.append({"to": [{"ipBlock": block} for block in blocks]})
    return rules


def _select_namespaces(labels: Mapping[str, str]) -> Manifest:
    return {"namespaceSelector": {"matchLabels": dict(labels)}}


def _build_port(port: int, protocol: str = "TCP") -> Manifest:
    return {"port": port, "protocol": protocol}
