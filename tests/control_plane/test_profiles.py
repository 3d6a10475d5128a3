"""FineTuneProfiles on a real API server: what it accepts, and what the operator makes of them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, utils
from kubernetes.client.exceptions import ApiException
from tests.control_plane.test_crd_on_server import collect_messages
from tests.tools.control_plane import ROOT, ControlPlane
from tests.tools.custom_objects import REFUSALS
from tests.tools.operator_process import OperatorProcess, Stage, run_operator
from tests.tools.waiting import wait_until

from loam_api.crd import KINDS, PROFILE_COLUMNS, build_crd
from loam_api.finetuneprofile import FineTuneProfile
from loam_api.validation import ManifestError, validate_profile

PLACE = {"group": "loam.dev", "version": "v1alpha1", "plural": "finetuneprofiles"}
EXAMPLE: dict[str, Any] = yaml.safe_load((ROOT / "examples/profile/profile.yaml").read_text())
CHAPTER = (ROOT / "docs/operations.md").read_text().partition("## Several teams")[2]
MANIFESTS = [
    document
    for block in re.findall(r"```yaml\n(.*?)```", CHAPTER.partition("\n## ")[0], re.DOTALL)
    for document in yaml.safe_load_all(block)
]
Apply = Callable[..., None]
# Its watch of profiles tells it nothing, as one that is behind, or was cut.
DEAF = """
import sys
from loam_operator import main, watching
follow = watching._follow
def follow_others(registry, kind, *more):
    if kind.plural != "finetuneprofiles":
        follow(registry, kind, *more)
watching._follow = follow_others
sys.exit(main.main())
"""


@pytest.fixture
def profiles(control_plane: ControlPlane) -> Iterator[client.CustomObjectsApi]:
    """The API of custom objects; no profile is left over for the tests that know of none."""
    api = client.CustomObjectsApi(control_plane.client)
    yield api
    api.delete_collection_cluster_custom_object(**PLACE)


@pytest.fixture
def apply(profiles: client.CustomObjectsApi) -> Apply:
    """Creates a profile, or changes its spec; waits for nothing: no job may need that."""

    def put(name: str, **spec: Any) -> None:
        body = make_profile(name, **spec)
        try:
            profiles.create_cluster_custom_object(**PLACE, body=body)
        except ApiException as error:
            if error.status != 409:
                raise
            held = profiles.get_cluster_custom_object(**PLACE, name=name)
            body["metadata"]["resourceVersion"] = held["metadata"]["resourceVersion"]
            profiles.replace_cluster_custom_object(**PLACE, name=name, body=body)

    return put


def make_profile(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "loam.dev/v1alpha1",
        "kind": "FineTuneProfile",
        "metadata": {"name": name},
        "spec": spec,
    }


def await_attempt(stage: Stage, job: str, attempt: int) -> dict[str, Any]:
    """The RayJob of an attempt, whatever its step is called."""

    def find() -> dict[str, Any] | None:
        wanted = {"loam.dev/job": job, "loam.dev/attempt": str(attempt)}
        for one in stage.list_ray_jobs():
            if wanted.items() <= one["metadata"]["labels"].items():
                return one
        return None

    found = wait_until(find, f"attempt {attempt} of {job}")
    assert found is not None
    return found


def get_image(ray_job: dict[str, Any]) -> str:
    pod = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    return str(pod["containers"][0]["image"])


def get_message(job: dict[str, Any]) -> str:
    return str(next(c["message"] for c in job["status"]["conditions"] if c["type"] == "Ready"))


# --- what the API server accepts ---------------------------------------------------------------
def try_create(
    api: client.CustomObjectsApi, manifest: dict[str, Any]
) -> tuple[dict[str, Any] | None, str]:
    """The defaulted object, or the refusal."""
    try:
        created: dict[str, Any] = api.create_cluster_custom_object(
            **PLACE, body=manifest, field_validation="Strict", dry_run="All"
        )
    except ApiException as error:
        if error.status not in REFUSALS:
            raise
        return None, str(json.loads(error.body)["message"])
    return created, ""


def validate(manifest: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    try:
        parsed: FineTuneProfile = validate_profile(copy.deepcopy(manifest))
    except ManifestError as error:
        return None, str(error)
    return parsed.spec.model_dump(mode="json", by_alias=True, exclude_none=True), ""


@pytest.mark.parametrize("manifest", [EXAMPLE, make_profile("empty")], ids=["example", "empty"])
def test_profiles_are_accepted_with_the_same_defaults(
    profiles: client.CustomObjectsApi, manifest: dict[str, Any]
):
    """The operator reads with its own defaults what the server has stored with its own."""
    accepted, refusal = try_create(profiles, manifest)
    assert accepted, refusal
    assert accepted["spec"] == validate(manifest)[0]


def test_columns_are_printed(control_plane: ControlPlane, profiles: client.CustomObjectsApi):
    wanted = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = profiles.list_cluster_custom_object(**PLACE, _headers=wanted)
    names = [column["name"] for column in table["columnDefinitions"]]
    assert names == ["Name", *(column["name"] for column in PROFILE_COLUMNS)]


# Words that server and command must both say, with a spec that breaks the rule.
BROKEN_RULES = {
    "In and NotIn need values": {
        "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}
    },
    "a value is read only with operator: Equal": {
        "pods": {"worker": {"tolerations": [{"key": "a", "value": "b"}]}}
    },
    "answers are kept in object storage": {"teacherCache": "file:///tmp/answers"},
}


@pytest.mark.parametrize("words", BROKEN_RULES)
def test_a_broken_rule_is_told_in_the_same_words(profiles: client.CustomObjectsApi, words: str):
    broken = make_profile("broken", **BROKEN_RULES[words])
    for accepted, refusal in (try_create(profiles, broken), validate(broken)):
        assert accepted is None
        assert words in refusal


def test_the_table_has_every_rule():
    """A new rule without a row above would be tried on no server."""
    (kind,) = [one for one in KINDS if one.model is FineTuneProfile]
    messages = set(collect_messages(build_crd(kind)["spec"]["versions"][0]["schema"]))
    covered = (*BROKEN_RULES, "metadata.name")
    assert [message for message in messages if not any(w in message for w in covered)] == []


@pytest.mark.parametrize(
    "spec",
    [
        {"allow": {"models": ["s3://bucket/../other"]}},
        {"allow": {"models": ["s3://bucket/.hidden"]}},
        {"allow": {"outputs": ["file:///data"]}},
        {"allow": {"teachers": ["https://user@host"]}},
        {"allow": {"teachers": ["https://host/v1?x=1"]}},
        {"allow": {"secrets": ["Upper"]}},
        {"limits": {"gpus": -1}},
        {"limits": {"teacherCost": 0}},
        {"teacherPrices": [{"model": "m", "prompt": 1}]},
        {"limits": {"memoryPerPod": "4GB"}},
        {"pods": {"image": "an image"}},
        {"pods": {"worker": {"nodeSelector": {"pool": "a b"}}}},
        {"egress": {"cidrs": ["10.0.0.0/33"]}},
        {"egress": {"cidrs": ["10.0.0.256/8"]}},
        {"egress": {"cidrs": ["fd00::"]}},
        {"unknown": 1},
    ],
)
def test_server_and_validate_refuse_the_same(profiles: client.CustomObjectsApi, spec: Any):
    """A prefix with a way back up, or a block that no NetworkPolicy takes, is refused at once."""
    manifest = make_profile("bad", **spec)
    assert try_create(profiles, manifest)[0] is None
    assert validate(manifest)[0] is None


# --- what the operator makes of them -----------------------------------------------------------
def test_a_refused_job_names_the_limit(operator: OperatorProcess, stage: Stage, apply: Apply):
    """The user needs no second look at anything but the job."""
    apply("small", default=True, limits={"workers": 2})
    stage.apply("big", compute={"workers": {"min": 3, "max": 3}})
    job = stage.await_reason("big", "NotAllowed")
    assert job["status"]["phase"] == "Failed"
    assert "spec.compute.workers.max: 3 is more than the 2" in get_message(job)
    assert "limits.workers" in get_message(job)
    assert not stage.list_ray_jobs()


def test_a_job_waits_for_its_profile_and_keeps_it(
    operator: OperatorProcess, stage: Stage, apply: Apply
):
    """GitOps applies in any order; and what was admitted goes on by the rules of its start."""
    stage.apply("early", compute={"profile": "late"})
    job = stage.await_reason("early", "ProfileUnavailable")
    assert job["status"]["phase"] == "Pending"
    assert "FineTuneProfile late does not exist" in get_message(job)
    apply("late", pods={"image": "registry.example/first:1"})
    first = await_attempt(stage, "early", 1)
    assert get_image(first) == "registry.example/first:1"

    apply("late", pods={"image": "registry.example/second:1"}, allow={"models": []})
    name = first["metadata"]["name"]
    stage.set_ray_job(name, jobStatus="RUNNING", jobDeploymentStatus="Running")
    stage.await_reason("early", "Preparing")
    stage.delete_foreign("RayJob", name)
    assert get_image(await_attempt(stage, "early", 2)) == "registry.example/first:1"
    assert stage.get_job("early")["status"]["profile"]["name"] == "late"

    stage.apply("later", compute={"profile": "late"})
    stage.await_reason("later", "NotAllowed")


def test_a_forged_copy_is_replaced(operator: OperatorProcess, stage: Stage, apply: Apply):
    """A ConfigMap with the job's name and owner, written by who may write ConfigMaps."""
    apply("true", default=True, pods={"image": "registry.example/true:1"})
    job = stage.apply("sly", suspend=True)
    stage.await_reason("sly", "Suspended")
    owner = {
        "apiVersion": "loam.dev/v1alpha1",
        "kind": "FineTuneJob",
        "name": "sly",
        "uid": job["metadata"]["uid"],
        "controller": True,
    }
    labels = {
        "app.kubernetes.io/managed-by": "loam",
        "loam.dev/job": "sly",
        "loam.dev/job-uid": job["metadata"]["uid"],
    }
    rules = {"name": "true", "spec": {"pods": {"image": "registry.example/false:1"}}}
    forged = {
        "metadata": {"name": "sly-manifest", "labels": labels, "ownerReferences": [owner]},
        "immutable": True,
        "data": {"job.yaml": "{}", "profile.json": json.dumps(rules)},
    }
    stage.core.create_namespaced_config_map(stage.namespace, forged)
    stage.change_job("sly", {"spec": {"suspend": False}})
    assert get_image(await_attempt(stage, "sly", 1)) == "registry.example/true:1"
    kept = stage.core.read_namespaced_config_map("sly-manifest", stage.namespace).data
    assert json.loads(kept["profile.json"])["spec"]["pods"]["image"] == "registry.example/true:1"
    assert json.loads(kept["job.yaml"])["metadata"]["name"] == "sly"


def test_rules_hold_that_no_watch_has_told_of(
    control_plane: ControlPlane,
    namespace: str,
    stage: Stage,
    tmp_path: Path,
    profiles: client.CustomObjectsApi,
):
    """Profile and job come by two watches. A job that is applied right after its profile must not
    run without rules, nor one under a profile whose deletion was lost."""
    settings = {"LOAM_NAMESPACES": namespace, "POD_NAMESPACE": namespace}
    profiles.create_cluster_custom_object(**PLACE, body=make_profile("gone"))
    with run_operator(control_plane.kubeconfig, tmp_path / "log", program=DEAF, **settings):
        profiles.delete_cluster_custom_object(**PLACE, name="gone")
        small = make_profile("small", default=True, limits={"workers": 2})
        profiles.create_cluster_custom_object(**PLACE, body=small)
        stage.apply("big", compute={"workers": {"min": 3, "max": 3}})
        stage.apply("orphan", compute={"profile": "gone"})
        assert "limits.workers" in get_message(stage.await_reason("big", "NotAllowed"))
        message = get_message(stage.await_reason("orphan", "ProfileUnavailable"))
        assert "FineTuneProfile gone does not exist" in message
        assert not stage.list_ray_jobs()


def test_a_job_may_come_before_the_profile_that_allows_it(
    operator: OperatorProcess, stage: Stage, apply: Apply
):
    """`kubectl apply -f folder` goes by the names of the files: job.yaml, then profile.yaml."""
    apply("team", default=True, limits={"workers": 2})
    stage.apply("big", compute={"workers": {"min": 3, "max": 3}})
    apply("team", default=True, limits={"workers": 4})
    await_attempt(stage, "big", 1)


def test_money_is_counted_by_the_profiles_prices(
    operator: OperatorProcess, stage: Stage, apply: Apply
):
    """What the pods read has the limit, and prices that the job cannot lower."""
    prices = {"prompt": 3, "completion": 15}
    apply(
        "paid", default=True, limits={"teacherCost": 20}, teacherPrices=[{"model": "m", **prices}]
    )
    openai = {
        "baseURL": "https://teacher.example/v1",
        "model": "m",
        "prices": {"prompt": 0.01, "completion": 0.01},
    }
    synthesis = {"targetCount": 10, "teacher": {"kind": "openai", "openai": openai}}
    data = {"task": "classification", "seeds": {"uri": "s3://bucket/seeds.jsonl"}}
    stage.apply("thrifty", data=data, synthesis=synthesis)
    stage.apply("dear", data=data, synthesis={**synthesis, "budget": {"maxCost": 21}})
    await_attempt(stage, "thrifty", 1)
    kept = stage.core.read_namespaced_config_map("thrifty-manifest", stage.namespace).data
    read = json.loads(kept["job.yaml"])["spec"]["synthesis"]
    assert read["budget"]["maxCost"] == 20
    assert read["teacher"]["openai"]["prices"] == prices
    message = get_message(stage.await_reason("dear", "NotAllowed"))
    assert "spec.synthesis.budget.maxCost: 21 is more than the 20" in message


def test_namespaces_are_told_apart_by_their_labels(
    operator: OperatorProcess, stage: Stage, apply: Apply
):
    """Another team's profile, with its nodes and limits, is not to be had by naming it."""
    apply("theirs", namespaceSelector={"matchLabels": {"team": "theirs"}})
    stage.apply("curious", compute={"profile": "theirs"})
    job = stage.await_reason("curious", "ProfileUnavailable")
    assert "is not for this namespace" in get_message(job)
    stage.core.patch_namespace(stage.namespace, {"metadata": {"labels": {"team": "theirs"}}})
    apply("theirs", namespaceSelector={"matchLabels": {"team": "theirs"}}, limits={"gpus": 1})
    await_attempt(stage, "curious", 1)


def test_each_job_has_a_network_policy(
    operator: OperatorProcess, stage: Stage, apply: Apply, control_plane: ControlPlane
):
    """The dashboard's port runs code: nobody but the job, KubeRay and monitoring comes in."""
    apply("closed", default=True, egress={"cidrs": ["10.96.0.1/32", "fd00::/8"]})
    job = stage.apply("netted")
    await_attempt(stage, "netted", 1)
    networking = client.NetworkingV1Api(control_plane.client)
    (policy,) = networking.list_namespaced_network_policy(stage.namespace).items
    assert policy.spec.policy_types == ["Ingress", "Egress"]
    selected = policy.spec.pod_selector.match_labels
    assert selected == {"loam.dev/job-uid": job["metadata"]["uid"]}
    stage.delete_job("netted")
    wait_until(
        lambda: not networking.list_namespaced_network_policy(stage.namespace).items,
        "the policy to go with its job",
    )


# --- what the documents say --------------------------------------------------------------------
def test_the_chapters_manifests_are_accepted(control_plane: ControlPlane, namespace: str):
    """A manifest that is copied from a page and refused is worse than none."""
    kinds = {document["kind"] for document in MANIFESTS}
    assert {"Namespace", "FineTuneProfile", "RoleBinding", "ResourceQuota"} <= kinds
    custom = client.CustomObjectsApi(control_plane.client)
    for document in MANIFESTS:
        if document["kind"] == "FineTuneProfile":
            accepted, refusal = try_create(custom, document)
            assert accepted, refusal
            continue
        if "namespace" in document["metadata"]:
            document["metadata"]["namespace"] = namespace
        utils.create_from_dict(control_plane.client, document, dry_run="All")


def test_gpus_of_another_name_are_asked_for_counted_and_priced(
    operator: OperatorProcess, stage: Stage, apply: Apply
):
    """From the profile to the pods, and from the pods to the bill: a resource that is called
    otherwise on the way is one that is never there, or one that nobody pays."""
    resource = "nvidia.com/mig-1g.5gb"
    pods = {"worker": {"gpuResource": resource}}
    apply("slices", default=True, pods=pods, gpuHourPrice=3600, currency="EUR")
    stage.apply("sliced", compute={"worker": {"gpus": 1}})
    stage.await_ray_job("sliced-prepare-a1")
    stage.succeed("sliced-prepare-a1", 1)
    ray_job = stage.await_ray_job("sliced-train-a2")
    (workers,) = ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"][resource] == "1"
    stage.create_pod("sliced-train-a2", ray_job, "worker", node="node-1")
    price = f'loam_operator_gpu_cost_total{{currency="EUR",job_namespace="{stage.namespace}"'
    wait_until(lambda: operator.count(price) > 0, "the meter to see the slice")
    stage.publish("sliced-train-a2", 2)
    job = stage.await_reason("sliced", "Succeeded")
    usage = job["status"]["usage"]
    assert usage["gpuSeconds"] > 0
    assert job["status"]["cost"] == usage["gpuCost"] == f"{usage['gpuSeconds']}.00 EUR"
    assert stage.read_row("sliced")["Cost"] == usage["gpuCost"]
