"""The chart: what Helm makes of it is what the operator needs, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, utils
from tests.tools.control_plane import ROOT, ControlPlane
from tests.tools.helm_tool import run_helm, try_helm
from tests.tools.operator_process import OperatorProcess, Stage
from tests.tools.waiting import wait_until

from loam_api.ports import METRICS_PORT_NAME
from loam_operator.names import ATTEMPT_LABEL, JOB_LABEL, ROLE_LABEL, STEP_LABEL

CHART = ROOT / "charts" / "loam"
SYSTEM = "loam-system"
PROFILES = {"group": "loam.dev", "version": "v1alpha1", "plural": "finetuneprofiles"}


def render(*settings: str) -> list[dict[str, Any]]:
    """All objects of the chart."""
    chosen = [part for setting in settings for part in ("--set", setting)]
    text = run_helm("template", "loam", str(CHART), "--namespace", SYSTEM, *chosen)
    return [document for document in yaml.safe_load_all(text) if document]


def list_rules(documents: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """(API group, resource, verb) of every right."""
    for document in documents:
        for rule in document.get("rules", []):
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    yield from ((group, resource, verb) for verb in rule["verbs"])


def find(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


def list_operators_roles(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The roles that are bound to the operator; others are made for users."""
    bindings = [*find(documents, "RoleBinding"), *find(documents, "ClusterRoleBinding")]
    bound = {one["roleRef"]["name"] for one in bindings}
    roles = [*find(documents, "Role"), *find(documents, "ClusterRole")]
    return [role for role in roles if role["metadata"]["name"] in bound]


def test_users_get_jobs_and_nobody_their_status():
    """Who could write the status could write their own rules; who cannot write jobs, no job."""
    roles = {one["metadata"]["name"]: one for one in find(render(), "ClusterRole")}
    edit = set(list_rules([roles["loam-edit"]]))
    assert {resource for _, resource, _ in edit} == {"finetunejobs"}
    assert {"create", "patch", "delete"} <= {verb for *_, verb in edit}
    view = set(list_rules([roles["loam-view"]]))
    assert {verb for *_, verb in view} == {"get", "list", "watch"}
    for name, kinds in (("view", ["view"]), ("edit", ["edit", "admin"])):
        labels = roles[f"loam-{name}"]["metadata"]["labels"]
        aggregated = {label for label in labels if "aggregate-to" in label}
        assert aggregated == {f"rbac.authorization.k8s.io/aggregate-to-{kind}" for kind in kinds}


def test_helm_finds_no_fault():
    run_helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize(
    "setting", ["namespace={team}", "workers=0", "images.runtime.tag=1,images.runtime.tagg=2"]
)
def test_a_misspelt_value_is_refused(setting: str):
    """Helm passes over what it does not know: an operator for all namespaces instead of one."""
    done = try_helm("template", "loam", str(CHART), "--set", setting)
    assert done.returncode != 0
    assert "values don't meet the specifications" in done.stderr


@pytest.mark.parametrize("settings", [(), ("namespaces={team-a,team-b}",)])
def test_the_operator_cannot_read_secrets_or_raise_its_rights(settings: tuple[str, ...]):
    """Whoever takes over the operator's pod must not thereby have the cluster."""
    rules = set(list_rules(list_operators_roles(render(*settings))))
    assert ("loam.dev", "finetunejobs/status", "patch") in rules
    assert {rule for rule in rules if rule[1] == "networkpolicies"} == {
        ("networking.k8s.io", "networkpolicies", verb)
        for verb in ("get", "create", "deletecollection")
    }
    assert {rule for rule in rules if rule[1] == "finetuneprofiles"} == {
        ("loam.dev", "finetuneprofiles", verb) for verb in ("list", "watch")
    }
    assert {verb for _, resource, verb in rules if resource == "namespaces"} == {"get"}
    for group, resource, verb in rules:
        assert resource != "secrets"
        assert "*" not in (group, resource, verb)
        assert verb not in ("escalate", "bind", "impersonate")
        assert resource not in ("pods/exec", "serviceaccounts/token", "nodes")


def test_a_namespaced_install_has_no_right_in_the_cluster():
    """But to list profiles, and to see the labels of its own namespaces, where that is wanted."""
    documents = render("namespaces={team-a,team-b}")
    (binding,) = find(documents, "ClusterRoleBinding")
    (role,) = [
        one
        for one in find(documents, "ClusterRole")
        if one["metadata"]["name"] == binding["roleRef"]["name"]
    ]
    assert set(list_rules([role])) == {
        ("loam.dev", "finetuneprofiles", "list"),
        ("loam.dev", "finetuneprofiles", "watch"),
        ("", "namespaces", "get"),
    }
    (named,) = [rule for rule in role["rules"] if rule["resources"] == ["namespaces"]]
    assert set(named["resourceNames"]) == {"team-a", "team-b", SYSTEM}
    documents = render("namespaces={team-a,team-b}", "profiles=ignored", "userRoles=false")
    assert not find(documents, "ClusterRole")
    assert not find(documents, "ClusterRoleBinding")
    bound = {one["metadata"]["namespace"] for one in find(documents, "RoleBinding")}
    assert bound == {"team-a", "team-b", SYSTEM}


def test_crds_stay_and_can_be_left_out():
    """All jobs would go with their definition."""
    crds = find(render(), "CustomResourceDefinition")
    assert len(crds) == 2
    for crd in crds:
        assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert not find(render("crds.install=false"), "CustomResourceDefinition")


@pytest.mark.parametrize("settings", [(), ("namespaces={team-a,team-b}",)])
def test_prometheus_is_led_to_the_jobs_metrics(settings: tuple[str, ...]):
    """Port and labels are the operator's words: a graph of another port would stay empty."""
    monitors = find(render("podMonitor.enabled=true", *settings), "PodMonitor")
    (jobs,) = [one["spec"] for one in monitors if one["metadata"]["name"] == "loam-jobs"]
    assert jobs["selector"]["matchLabels"] == {ROLE_LABEL: "head"}
    assert jobs["podMetricsEndpoints"][0]["port"] == METRICS_PORT_NAME
    assert set(jobs["podTargetLabels"]) == {JOB_LABEL, STEP_LABEL, ATTEMPT_LABEL}
    chosen = {"matchNames": ["team-a", "team-b"]} if settings else {"any": True}
    assert jobs["namespaceSelector"] == chosen


def test_who_reaches_the_operator_is_prometheus():
    """Its one port tells who runs what; it is nobody else's affair."""
    documents = render("networkPolicy.monitoring.namespaceLabels.team=metrics")
    (policy,) = find(documents, "NetworkPolicy")
    (deployment,) = find(documents, "Deployment")
    pod = deployment["spec"]["template"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (rule,) = policy["spec"]["ingress"]
    (source,) = rule["from"]
    labels = {"kubernetes.io/metadata.name": "monitoring", "team": "metrics"}
    assert source == {"namespaceSelector": {"matchLabels": labels}}
    (port,) = rule["ports"]
    assert port["port"] in [one["name"] for one in pod["spec"]["containers"][0]["ports"]]


def test_the_operators_pod_is_restricted():
    (deployment,) = find(render(), "Deployment")
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"livenessProbe", "readinessProbe"} <= set(container)


@pytest.mark.parametrize("is_namespaced", [False, True])
def test_the_charts_rights_are_enough(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, is_namespaced: bool
):
    """With an administrator's rights in every other test, a missing rule would stay unseen."""
    settings = [f"namespaces={{{namespace}}}"] if is_namespaced else []
    system = control_plane.create_namespace()
    chosen = [part for one in (*settings, "crds.install=false") for part in ("--set", one)]
    text = run_helm("template", system, str(CHART), "--namespace", system, *chosen)
    for document in yaml.safe_load_all(text):
        if document and document["kind"] != "Deployment":
            utils.create_from_dict(control_plane.client, document)
    kubeconfig = control_plane.create_kubeconfig(system, f"{system}-operator")
    operator = OperatorProcess(
        kubeconfig,
        tmp_path / "operator.log",
        POD_NAMESPACE=system,
        LOAM_NAMESPACES=namespace if is_namespaced else "",
    )
    stage = Stage(control_plane.client, namespace)
    custom = client.CustomObjectsApi(control_plane.client)
    try:
        operator.start()
        custom.create_cluster_custom_object(**PROFILES, body=build_profile(namespace))
        stage.apply("humble", clusterTTLSeconds=0, compute={"profile": "humble"})
        stage.await_ray_job("humble-prepare-a1")
        stage.fail("humble-prepare-a1", 1, 1)
        stage.await_ray_job("humble-prepare-a2")
        stage.publish("humble-prepare-a2", 2)
        stage.await_reason("humble", "Succeeded")
        wait_until(lambda: not stage.list_children("humble"), "children to be deleted")
        assert "Forbidden" not in operator.read_log()
        assert 'status="403"' not in str(operator.read("metrics"))
    finally:
        operator.kill()
        custom.delete_collection_cluster_custom_object(**PROFILES)
        access = client.RbacAuthorizationV1Api(control_plane.client)
        for role in access.list_cluster_role_binding().items:
            if role.metadata.name.startswith(f"{system}-operator"):
                access.delete_cluster_role_binding(role.metadata.name)


def build_profile(namespace: str) -> dict[str, Any]:
    """A profile for this one namespace."""
    labels = {"kubernetes.io/metadata.name": namespace}
    return {
        "apiVersion": "loam.dev/v1alpha1",
        "kind": "FineTuneProfile",
        "metadata": {"name": "humble"},
        "spec": {"namespaceSelector": {"matchLabels": labels}},
    }


def test_it_can_be_installed_upgraded_and_uninstalled(control_plane: ControlPlane, tmp_path: Path):
    """With Helm itself, on a server that checks every field; the jobs' definition stays."""
    system = control_plane.create_namespace()
    common = ["--namespace", system, "--kubeconfig", str(control_plane.kubeconfig)]
    chart = ["lifecycle", str(CHART), *common, "--set", "crds.install=false"]
    run_helm("install", *chart)
    run_helm("upgrade", *chart, "--set", "workers=4")
    apps = client.AppsV1Api(control_plane.client)
    (deployment,) = apps.list_namespaced_deployment(system).items
    environment = {one.name: one.value for one in deployment.spec.template.spec.containers[0].env}
    assert environment["LOAM_WORKERS"] == "4"
    run_helm("rollback", "lifecycle", "1", *common)
    run_helm("uninstall", "lifecycle", *common)
    assert not apps.list_namespaced_deployment(system).items
