"""A real Kubernetes control plane without nodes: etcd, API server and controller manager.

Plain processes of an ordinary user on free ports. RBAC is on, and owners' children and
namespaces are collected as in any cluster; pods are accepted and never run.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import ssl
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from kubernetes import client, config
from tests.tools.build_tools import build_tool, find_kuberay_crds
from tests.tools.certificates import Authority, KeyPair
from tests.tools.processes import Processes, find_free_port
from tests.tools.waiting import wait_until

ROOT = Path(__file__).parents[2]
LOAM_CRDS = ROOT / "crds"
LOCALHOST = "127.0.0.1"
SERVICE_RANGE = "10.96.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"  # the first of the range: where pods find the API server
CRDS = {
    "group": "apiextensions.k8s.io",
    "version": "v1",
    "plural": "customresourcedefinitions",
}
ADMINS = "system:masters"
START_TIMEOUT_SECONDS = 120
NAMESPACE_TIMEOUT_SECONDS = 120
TOKEN_SECONDS = 3600
# Those that other objects' life depends on; a Job or Deployment stays as it was written.
CONTROLLERS = (
    "garbage-collector-controller",
    "namespace-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
)

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "None", "verbs": ["get", "list", "watch"]}, {"level": "Metadata"}],
}


class ControlPlane:
    """Starts, breaks and ends a control plane.

    Attributes:
        kubeconfig: the administrator's.
        client: an API client of the official Python package, with the administrator's rights.
        url: address of the API server; the same after a restart.
        etcd_url: address of etcd, which speaks JSON, too.
        audit_log: where the API server notes each write as one line of JSON, if it does.
    """

    client: client.ApiClient

    def __init__(
        self,
        folder: Path,
        host: str = LOCALHOST,
        controllers: Sequence[str] = CONTROLLERS,
        *,
        is_audited: bool = False,
    ) -> None:
        """
        Args:
            folder: for keys, data and logs; new or empty.
            host: the address that the API server listens on and says it is reached by.
            is_audited: whether it notes who wrote what, and etcd keeps every version of it; which
                costs time.
        """
        self.folder = folder
        self.processes = Processes(folder / "logs")
        self._binary = build_tool("kubernetes")
        self._host = host
        self._controllers = controllers
        self._is_audited = is_audited
        self.audit_log = folder / "audit.log"
        self.etcd_url = f"http://{LOCALHOST}:{find_free_port()}"
        self._port = find_free_port()
        self.url = f"https://{host}:{self._port}"
        self.authority = Authority(folder / "keys")
        self._tokens = self.authority.create_token_keys()
        hosts = [LOCALHOST, host, KUBERNETES_SERVICE, "localhost", "kubernetes.default.svc"]
        self._server_keys = self.authority.sign_server("kube-apiserver", hosts)
        self._admin_keys = self.authority.sign_client("admin", ADMINS)
        self.kubeconfig = self.write_kubeconfig("admin", _use_keys(self._admin_keys))

    def start(self, *crd_folders: Path) -> None:
        """Bring all up, and return once it serves these CRDs, too."""
        self._start_etcd()
        self.start_apiserver()
        self.client = config.new_client_from_config(str(self.kubeconfig))
        self.install_crds(*crd_folders)
        # Last, because it looks for new kinds whose owners it minds only now and then.
        self._start_controller_manager()

    def stop(self) -> None:
        """End all processes."""
        if hasattr(self, "client"):
            self.client.close()
        self.processes.kill_all()

    def start_apiserver(self) -> None:
        """Start it, also after it was killed; return once it is ready."""
        keys, tokens, admin = self._server_keys, self._tokens, self._admin_keys
        command = [
            self._binary,
            "kube-apiserver",
            f"--etcd-servers={self.etcd_url}",
            f"--bind-address={self._host}",
            f"--advertise-address={self._host}",
            f"--secure-port={self._port}",
            f"--tls-cert-file={keys.certificate}",
            f"--tls-private-key-file={keys.key}",
            f"--client-ca-file={self.authority.certificate}",
            f"--kubelet-client-certificate={admin.certificate}",
            f"--kubelet-client-key={admin.key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={tokens.certificate}",
            f"--service-account-signing-key-file={tokens.key}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",  # a test node's name is in no DNS
        ]
        if self._is_audited:
            policy = self.folder / "audit-policy.json"
            policy.write_text(json.dumps(AUDIT_POLICY), encoding="utf-8")
            command += [
                f"--audit-policy-file={policy}",
                f"--audit-log-path={self.audit_log}",
                "--etcd-compaction-interval=0",
            ]
        if self._host == LOCALHOST:
            # No pod is there to use the service, and a loopback address may not be its endpoint.
            command.append("--endpoint-reconciler-type=none")
        self.processes.start("kube-apiserver", command)
        self._wait_until_ready("kube-apiserver", f"{self.url}/readyz")

    def kill_apiserver(self) -> None:
        """End it as a crash does; what it had answered is kept."""
        self.processes.kill("kube-apiserver")

    def install_crds(self, *folders: Path) -> None:
        """Install every CRD in the folders' YAML files; return once the API server serves them."""
        # As plain dictionaries: KubeRay's are so large that typed models would take seconds.
        api = client.CustomObjectsApi(self.client)
        files = [file for folder in folders for file in sorted(folder.glob("*.yaml"))]
        for file in files:
            body = yaml.load(file.read_text("utf-8"), Loader=yaml.CSafeLoader)
            api.create_cluster_custom_object(**CRDS, body=body)
        wait_until(lambda: _count_established(api) == len(files), "CRDs to be served")

    def create_namespace(self) -> str:
        """A new namespace in which pods could be created."""
        name = f"test-{secrets.token_hex(4)}"
        core = client.CoreV1Api(self.client)
        core.create_namespace({"metadata": {"name": name}})
        wait_until(
            lambda: core.list_namespaced_service_account(name).items,
            f"ServiceAccount default in namespace {name}",
        )
        return name

    def delete_namespace(self, name: str) -> None:
        """Delete it with all that is in it; return once it is gone."""
        core = client.CoreV1Api(self.client)
        core.delete_namespace(name)

        def is_gone() -> bool:
            return all(one.metadata.name != name for one in core.list_namespace().items)

        wait_until(is_gone, f"the end of namespace {name}", NAMESPACE_TIMEOUT_SECONDS)

    def create_kubeconfig(self, namespace: str, service_account: str) -> Path:
        """A kubeconfig with the rights of an existing ServiceAccount, for an hour."""
        answer = client.CoreV1Api(self.client).create_namespaced_service_account_token(
            service_account, namespace, {"spec": {"expirationSeconds": TOKEN_SECONDS}}
        )
        return self.write_kubeconfig(
            f"{namespace}-{service_account}", {"token": answer.status.token}, namespace
        )

    def create_admin(self, name: str) -> Path:
        """A kubeconfig of one more administrator, whom audit tells from the others."""
        return self.write_kubeconfig(name, _use_keys(self.authority.sign_client(name, ADMINS)))

    def write_kubeconfig(self, name: str, user: dict[str, str], namespace: str = "default") -> Path:
        """A kubeconfig for a user of these credentials."""
        cluster = {
            "server": self.url,
            "certificate-authority": str(self.authority.certificate),
        }
        context = {"cluster": "loam", "user": name, "namespace": namespace}
        path = self.folder / f"{name}.kubeconfig"
        path.touch(mode=0o600)
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "loam", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "loam", "context": context}],
            "current-context": "loam",
        }
        path.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
        return path

    def _start_etcd(self) -> None:
        command = [
            self._binary,
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={self.etcd_url}",
            f"--advertise-client-urls={self.etcd_url}",
            f"--listen-peer-urls=http://{LOCALHOST}:{find_free_port()}",
            "--log-level=error",
            "--heartbeat-interval=20",  # one member elects itself at once
            "--election-timeout=100",
            "--unsafe-no-fsync",  # a test's data need not outlive the machine
        ]
        self.processes.start("etcd", command)
        self._wait_until_ready("etcd", f"{self.etcd_url}/health")

    def _start_controller_manager(self) -> None:
        command = [
            self._binary,
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--controllers={','.join(self._controllers)}",
            f"--service-account-private-key-file={self._tokens.key}",
            f"--root-ca-file={self.authority.certificate}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--secure-port=0",
        ]
        self.processes.start("kube-controller-manager", command)

    def _wait_until_ready(self, name: str, url: str) -> None:
        trust = ssl.create_default_context(cafile=self.authority.certificate)

        def is_ready() -> bool:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url, timeout=5, context=trust).close()
                return True
            return False

        self.processes.wait_until(name, is_ready, START_TIMEOUT_SECONDS)


@contextlib.contextmanager
def run_control_plane(
    controllers: Sequence[str] = CONTROLLERS, *, has_loam: bool = True, is_audited: bool = False
) -> Iterator[ControlPlane]:
    """A control plane with KubeRay's CRDs, until the block ends; nothing is left then.

    Args:
        has_loam: whether Loam's CRDs are there already, as put by hand.
        is_audited: whether it notes who wrote what, and keeps every version of it.

    Raises:
        RuntimeError: a part did not start; with the end of its log.
    """
    folder = Path(tempfile.mkdtemp(prefix="loam-control-plane-"))
    control_plane = ControlPlane(folder, controllers=controllers, is_audited=is_audited)
    try:
        control_plane.start(*([LOAM_CRDS] if has_loam else []), find_kuberay_crds())
        yield control_plane
    finally:
        control_plane.stop()
        shutil.rmtree(folder)


def _use_keys(keys: KeyPair) -> dict[str, str]:
    return {"client-certificate": str(keys.certificate), "client-key": str(keys.key)}


def _count_established(api: client.CustomObjectsApi) -> int:
    crds = api.list_cluster_custom_object(**CRDS)["items"]
    conditions = [one for crd in crds for one in crd["status"]["conditions"] or []]
    return sum(one["type"] == "Established" and one["status"] == "True" for one in conditions)
