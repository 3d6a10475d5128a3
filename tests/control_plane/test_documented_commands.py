"""Every command that the operations guide, the README and the chart's notes tell a reader to type.

They are read from the texts, and typed in the order of an installation's life: a fresh cluster, a
team, a job that is paused, fails, is tried again and succeeds, an upgrade, the end. The test plays
KubeRay, the kubelet and the pods. A command that is added to a text fails here until it is run.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.tools.command_line import CommandLine
from tests.tools.control_plane import CONTROLLERS, CRDS, ROOT, ControlPlane, run_control_plane
from tests.tools.documented import list_commands, list_manifests
from tests.tools.operator_process import OperatorProcess, Stage, run_operator
from tests.tools.tiny_job import write_job
from tests.tools.waiting import wait_until

GUIDE = (ROOT / "docs" / "operations.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
SYSTEM = "loam-system"
TEAM = "team-a"  # as the guide calls it
NAMES = {"NAME": "tickets", "NAMESPACE": TEAM, "REGISTRY": "registry.example"}
NOT_RUN_HERE = {
    "curl -m 3 http://POD-IP:8265": "needs pods with addresses and a plug-in that enforces",
    "kubectl get workloads": "Kueue's kind; make e2e has Kueue",
    "make e2e": "is a test of its own",
    "make test-vllm": "needs an environment with vLLM",
    "python -m tests.tools.node_check": "its answer is the machine's; make e2e runs it",
}
MORE_CONTROLLERS = ("deployment-controller", "replicaset-controller", "resourcequota-controller")
HELM_PLACE = f"loam charts/loam --namespace {SYSTEM}"


class Guide:
    """Types commands of the texts, and remembers which."""

    def __init__(self, shell: CommandLine) -> None:
        self._shell = shell
        self._left = set(list_commands(GUIDE))
        self._left |= {one for one in list_commands(README) if one.startswith(("kubectl", "helm"))}
        self._known = frozenset(self._left)

    def add_notes(self, text: str) -> None:
        """Take in what Helm printed after installing."""
        found = set(list_commands(text))
        assert len(found) == 3, text
        self._left |= found - self._known
        self._known |= found

    def run(self, command: str, more: str = "", *, code: int = 0) -> str:
        """Type a command as a text has it, its placeholders filled in.

        Args:
            more: what a reader adds to a command that is only named.
        """
        assert command in self._known, f"no text has the command: {command}"
        self._left.discard(command)
        text = re.sub(r"\b[A-Z]+\b", lambda found: NAMES.get(found[0], found[0]), command)
        return self._shell.run(f"{text.removesuffix(' ...')} {more}", code=code)

    def run_like(self, start: str, more: str = "", *, code: int = 0) -> str:
        """Type the one command that begins so."""
        (command,) = [one for one in self._known if one.startswith(start)]
        return self.run(command, more, code=code)

    def list_left(self) -> set[str]:
        """What no step has typed."""
        return self._left


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    """One that has never seen Loam, where Deployments get pods and quotas are counted."""
    with run_control_plane((*CONTROLLERS, *MORE_CONTROLLERS), has_loam=False) as running:
        for kind in ("PodMonitor", "PrometheusRule"):
            _install_lax_kind(running, "monitoring.coreos.com", kind)
        yield running


def _install_lax_kind(cluster: ControlPlane, group: str, kind: str) -> None:
    """A kind of others' that takes whatever it is given; its own rules are not tried here."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    plural = f"{kind.lower()}s"
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "scope": "Namespaced",
            "versions": [version],
        },
    }
    client.CustomObjectsApi(cluster.client).create_cluster_custom_object(**CRDS, body=body)


@contextlib.contextmanager
def play_operator_pod(cluster: ControlPlane, log: Path) -> Iterator[OperatorProcess]:
    """The Deployment's container as a process, with the rights that the chart has given it."""
    kubeconfig = cluster.create_kubeconfig(SYSTEM, "loam-operator")
    with run_operator(kubeconfig, log, POD_NAMESPACE=SYSTEM) as operator:
        core = client.CoreV1Api(cluster.client)
        (pod,) = wait_until(lambda: core.list_namespaced_pod(SYSTEM).items, "the operator's pod")
        ready = {"type": "Ready", "status": "True"}
        body = {"status": {"phase": "Running", "conditions": [ready]}}
        core.patch_namespaced_pod_status(pod.metadata.name, SYSTEM, body)
        yield operator


def write_team_job(path: Path, **more: Any) -> None:
    """A job within what the guide's profile allows."""
    spec = {
        "model": {"uri": "s3://models/tiny"},
        "data": {"task": "text", "seeds": {"uri": "s3://results/seeds.jsonl"}},
        "compute": {"worker": {"gpus": 1}},
        "output": {"uri": "s3://results/out", "secretRef": {"name": "storage"}},
        **more,
    }
    head = {"apiVersion": "loam.dev/v1alpha1", "kind": "FineTuneJob"}
    path.write_text(yaml.safe_dump({**head, "metadata": {"name": NAMES["NAME"]}, "spec": spec}))


# --- the guide from its beginning to its end -----------------------------------------------------
def test_the_guide_works_as_it_is_written(
    cluster: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A command that does not work is found by whoever is in need of it: at night, in trouble."""
    shell = CommandLine(tmp_path / "clone", cluster.kubeconfig, TEAM)
    guide = Guide(shell)
    guide.add_notes(install(guide))
    with play_operator_pod(cluster, tmp_path / "operator.log"):
        let_a_team_in(guide, shell)
        stage = Stage(cluster.client, TEAM)
        review_rows(guide, shell, stage, monkeypatch)
        pause_and_resume(guide, shell, stage)
        fail_and_try_again(guide, shell, stage)
        lose_the_head(guide, stage)
        succeed(guide, stage)
        upgrade(guide, shell)
    uninstall_and_come_back(guide, shell)
    assert guide.list_left() == set(NOT_RUN_HERE)


def install(guide: Guide) -> str:
    """Both texts' installation, the README's first; returns the chart's notes."""
    readme = f"helm install {HELM_PLACE} --create-namespace ..."
    guide.run(readme)
    guide.run("helm uninstall", f"loam --namespace {SYSTEM}")
    return guide.run_like(f"helm install {HELM_PLACE} --create-namespace --set")


def let_a_team_in(guide: Guide, shell: CommandLine) -> None:
    """Namespace, profile, role, quota and Secret; then the team's first job."""
    guide.run(f"kubectl -n {SYSTEM} rollout status deployment/loam-operator")
    assert "Running" in guide.run(f"kubectl -n {SYSTEM} get pods")
    for manifest in list_manifests(GUIDE):
        shell.run("kubectl apply --validate=strict -f -", given=manifest)
    guide.run_like("kubectl create secret generic storage")
    write_team_job(shell.folder / "job.yaml")
    assert "created" in guide.run("kubectl apply -f job.yaml")
    assert "unchanged" in guide.run("kubectl apply --validate=strict -f job.yaml")


def review_rows(
    guide: Guide, shell: CommandLine, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way to decide, on a job of its own that waits for it."""
    (shell.folder / "spot_check.csv").write_text("row id,verdict\nrow-1f2e,bad\n")
    synthesis = {"targetCount": 10, "spotCheck": {"required": True}}
    for number, command in enumerate(
        (
            "loam approve NAME",
            "loam reject NAME --rows row-1f2e,row-9c0d",
            "loam approve NAME --verdicts spot_check.csv",
            "loam reject NAME",
        )
    ):
        name = f"review-{number}"
        monkeypatch.setitem(NAMES, "NAME", name)
        write_team_job(shell.folder / "review.yaml", synthesis=synthesis)
        shell.run("kubectl apply -f review.yaml")
        for attempt, step in enumerate(("prepare", "generate"), start=1):
            stage.await_ray_job(f"{name}-{step}-a{attempt}")
            stage.succeed(f"{name}-{step}-a{attempt}", attempt)
        guide.run_like("kubectl wait finetunejob/NAME --for=jsonpath")
        guide.run(command)
        if number == 3:
            stage.await_reason(name, "ReviewRejected")
        else:
            stage.await_ray_job(f"{name}-train-a3")
        shell.run(f"kubectl delete finetunejob {name}")
    monkeypatch.undo()


def pause_and_resume(guide: Guide, shell: CommandLine, stage: Stage) -> None:
    stage.await_ray_job("tickets-prepare-a1")
    pause = guide.run_like("kubectl patch finetunejob NAME")
    assert "patched" in pause
    stage.await_reason("tickets", "Suspended")
    shell.run("""kubectl patch finetunejob tickets --type=merge -p '{"spec":{"suspend":false}}'""")
    stage.await_ray_job("tickets-prepare-a2")


def fail_and_try_again(guide: Guide, shell: CommandLine, stage: Stage) -> None:
    """The remedies of the troubleshooting, on a job that needs them."""
    stage.fail("tickets-prepare-a2", 2, 11, "Access to s3://results is refused.")
    assert "Access to s3://results is refused." in guide.run("loam wait NAME -n NAMESPACE", code=3)
    message = guide.run_like("kubectl get finetunejob NAME -o jsonpath")
    assert "Access to s3://results is refused." in message
    described = guide.run("kubectl describe finetunejob NAME")
    assert re.search(r"Warning +BadCredentials .* Access to s3://results is refused", described)
    assert "BadCredentials" in guide.run("kubectl get events")
    stage.keep_log("tickets", 2, "--- submitter tickets-prepare-a2\nKeyError: 'loss'")
    assert "KeyError: 'loss'" in guide.run("loam logs NAME -n NAMESPACE -f")
    assert "KeyError: 'loss'" in guide.run("loam logs NAME")
    local = write_job(shell.folder / "local")
    guide.run("loam validate", str(local))
    assert "training.method" in guide.run("loam plan", str(local))
    guide.run("loam retry NAME")
    stage.await_ray_job("tickets-prepare-a3")
    stage.fail("tickets-prepare-a3", 3, 11, "Access to s3://results is refused.")
    stage.await_reason("tickets", "BadCredentials")
    guide.run_like("kubectl annotate finetunejob NAME loam.dev/retry")
    stage.await_ray_job("tickets-prepare-a4")


def lose_the_head(guide: Guide, stage: Stage) -> None:
    """What `LoamTrainingStalled` says to do."""
    ray_job = stage.await_ray_job("tickets-prepare-a4")
    stage.create_pod("tickets-prepare-a4", ray_job, "head")
    stage.set_ray_job("tickets-prepare-a4", jobStatus="RUNNING", jobDeploymentStatus="Running")
    wait_until(
        lambda: stage.get_job("tickets")["status"]["attempts"][-1].get("headUid"), "the head"
    )
    guide.run("kubectl delete pod", "tickets-prepare-a4-head")
    stage.await_ray_job("tickets-prepare-a5")


def succeed(guide: Guide, stage: Stage) -> None:
    stage.publish("tickets-prepare-a5", 5)
    guide.run("kubectl wait finetunejob/NAME --for=condition=Complete")
    guide.run("loam wait NAME -n NAMESPACE")
    assert "Succeeded" in guide.run("kubectl get finetunejobs")


def upgrade(guide: Guide, shell: CommandLine) -> None:
    """The optional parts, and back; the job is there all the while."""
    guide.run_like(f"helm upgrade {HELM_PLACE} --reuse-values --set podMonitor")
    assert "loam-jobs" in shell.run(f"kubectl get podmonitors -n {SYSTEM}")
    assert "loam" in shell.run(f"kubectl get prometheusrules -n {SYSTEM}")
    guide.run("helm upgrade", f"{HELM_PLACE} --reuse-values --set workers=4")
    guide.run("helm rollback", f"loam 1 --namespace {SYSTEM}")
    assert "No resources found" in shell.run(f"kubectl get podmonitors -n {SYSTEM}")
    shell.run("kubectl create namespace argocd")
    shell.run(
        "kubectl -n argocd create configmap argocd-cm --from-literal=url=https://argo.example"
    )
    guide.run_like("kubectl -n argocd patch configmap argocd-cm")
    data = json.loads(shell.run("kubectl -n argocd get configmap argocd-cm -o json"))["data"]
    assert set(data) == {"url", "resource.customizations.health.loam.dev_FineTuneJob"}


def uninstall_and_come_back(guide: Guide, shell: CommandLine) -> None:
    """Jobs outlive the release, until they are deleted by their name."""
    guide.run("helm uninstall", f"loam --namespace {SYSTEM}")
    assert "Succeeded" in guide.run("kubectl get finetunejobs")
    guide.run("helm install --take-ownership", HELM_PLACE)
    guide.run("kubectl delete finetunejob NAME")
    assert "No resources found" in guide.run("kubectl get finetunejobs")


# --- what kubectl shows --------------------------------------------------------------------------
def test_kubectl_shows_a_job(
    control_plane: ControlPlane, operator: OperatorProcess, stage: Stage, tmp_path: Path
):
    """The columns are all that most people ever see of a job; an empty one tells them nothing."""
    shell = CommandLine(tmp_path / "clone", control_plane.kubeconfig, stage.namespace)
    workers = {"workers": {"max": 2}, "worker": {"gpus": 1}}
    stage.apply("shown", compute=workers, training={"method": "lora"})
    stage.await_ray_job("shown-prepare-a1")
    assert read_row(shell, wide=True)["GPU"] == ""
    stage.succeed("shown-prepare-a1", 1, method="lora")
    stage.await_ray_job("shown-train-a2")
    stage.set_ray_job("shown-train-a2", jobStatus="RUNNING", jobDeploymentStatus="Running")
    stage.say("shown-train-a2", 2, stage="train", summary="train-62%")
    stage.await_reason("shown", "Training")
    row = read_row(shell, wide=True)
    assert list(row) == WIDE
    assert row["PHASE"] == "Training"
    assert (row["METHOD"], row["ATTEMPT"], row["WORKERS"], row["GPU"]) == ("lora", "2", "2", "2")
    assert row["PROGRESS"] == "train-62%"
    measured = {"name": "accuracy", "score": 0.875}
    stage.succeed("shown-train-a2", 2, is_published=True, metrics=measured)
    assert "met" in shell.run("kubectl wait --for=condition=Ready finetunejob/shown --timeout=60s")
    row = read_row(shell)
    assert list(row) == ["NAME", "PHASE", "METHOD", "PROGRESS", "SCORE", "AGE"]
    assert (row["PHASE"], row["SCORE"]) == ("Succeeded", "0.875")
    assert read_row(shell, wide=True)["GPU"] == ""


WIDE = [
    *("NAME", "PHASE", "METHOD", "PROGRESS", "SCORE"),
    *("ATTEMPT", "WORKERS", "GPU", "COST", "AGE"),
]


def read_row(shell: CommandLine, *, wide: bool = False) -> dict[str, str]:
    """What `kubectl get` prints of the one job, by column."""
    printed = shell.run(f"kubectl get finetunejobs {'-o wide' if wide else ''}").splitlines()
    header, row = printed
    starts = [found.start() for found in re.finditer(r"\S+", header)]
    cells = [row[start:end].strip() for start, end in pairwise([*starts, None])]
    return dict(zip(header.split(), cells, strict=True))


def test_kubectl_explains_the_fields(control_plane: ControlPlane, tmp_path: Path):
    """Who writes a manifest without the documents at hand asks the cluster."""
    shell = CommandLine(tmp_path / "clone", control_plane.kubeconfig, "default")
    told = shell.run("kubectl explain finetunejob.spec.synthesis")
    assert "targetCount\t<integer>" in told
    assert re.search(r"GROUP: +loam.dev", told)
    assert "rows" in shell.run("kubectl explain ftj.spec.synthesis.targetCount").lower()
