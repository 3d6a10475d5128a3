"""The RayJob and what goes with it: restricted, unretried, and without a secret in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.tools.remote_teacher import TEACHER
from tests.unit.operator.world import SPEC

from loam_api.ports import METRICS_PORT, METRICS_PORT_NAME
from loam_operator.checking import SpecError, check_spec
from loam_operator.children import build_children
from loam_operator.decision import Launch
from loam_operator.names import MAX_ATTEMPT_NUMBER, name_attempt
from loam_operator.network import build_network_policy
from loam_operator.observed import JobView
from loam_operator.profiles import Profile
from loam_operator.quantities import multiply_memory
from loam_operator.rayjob import build_ray_job
from loam_operator.settings import Settings
from loam_operator.steps import STEPS, list_steps
from loam_operator.views import view_job

SETTINGS = Settings(image="registry.example/runtime:1", pull_secrets=("pull",))
JOB = JobView(
    "team",
    "job",
    "uid",
    1,
    "1",
    queue_labels={"kueue.x-k8s.io/queue-name": "gpus"},
    spec={
        **SPEC,
        "output": {"uri": "s3://bucket/out", "secretRef": {"name": "storage"}},
        "synthesis": {"targetCount": 10, "teacher": TEACHER},
        "compute": {
            "workers": {"min": 2, "max": 2},
            "head": {"cpu": "200m", "memory": "2Gi"},
            "worker": {"cpu": "300m", "memory": "3Gi", "gpus": 1},
        },
    },
)


def build(launch: Launch | None = None, job: JobView = JOB) -> dict[str, Any]:
    return build_ray_job(job, check_spec(job), launch or Launch("train", 1), SETTINGS)


def get_pods(ray_job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    cluster = ray_job["spec"]["rayClusterSpec"]
    pods = {
        "head": cluster["headGroupSpec"]["template"],
        "submitter": ray_job["spec"]["submitterPodTemplate"],
    }
    for group in cluster["workerGroupSpecs"]:
        pods["worker"] = group["template"]
    return pods


def get_container(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["spec"]["containers"]
    return dict(container)


def walk(value: Any) -> Iterator[Any]:
    yield value
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list):
        for child in children:
            yield from walk(child)


def test_kuberay_retries_nothing():
    """Its retries are blind: a wrong manifest three times over, or two heads for one attempt."""
    spec = build()["spec"]
    assert (spec["backoffLimit"], spec["submitterConfig"]["backoffLimit"]) == (0, 0)
    assert {pod["spec"]["restartPolicy"] for pod in get_pods(build()).values()} == {"Never"}
    assert "suspend" not in spec  # a queue's, never ours


def test_dashboard_asks_for_a_token():
    """An open dashboard runs whatever it is sent."""
    cluster = build()["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == SETTINGS.ray_version


@pytest.mark.parametrize("role", ["head", "worker", "submitter"])
def test_pods_are_restricted(role):
    """Pod security admission at the level `restricted` refuses anything less."""
    pod = get_pods(build())[role]
    context = get_container(pod)["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not any("hostPath" in volume for volume in pod["spec"]["volumes"])
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_only_the_head_has_token_and_manifest():
    """What trains runs what models and data bring along: it gets nothing that it does not need."""
    pods = get_pods(build())
    names = {role: {one["name"] for one in pod["spec"]["volumes"]} for role, pod in pods.items()}
    assert names["head"] - names["worker"] == {"job", "token"}
    assert names["worker"] == names["submitter"]
    assert "serviceAccountName" not in pods["worker"]["spec"]
    assert "storage" not in json.dumps(pods["submitter"])


def test_the_head_names_every_port_that_is_asked_for():
    """A head that names one port loses KubeRay's own: no Ray would find another, nor the job."""
    (ports, *others) = (get_container(pod).get("ports", []) for pod in get_pods(build()).values())
    named = {one["name"]: one["containerPort"] for one in ports}
    assert (named["gcs-server"], named["dashboard"]) == (6379, 8265)
    assert named[METRICS_PORT_NAME] == METRICS_PORT
    assert not any(others)


def with_judge(secret: str, key: str) -> JobView:
    reference = {"name": secret, "key": key}
    judge = {"baseURL": "https://judge.example/v1", "model": "j", "apiKeySecretRef": reference}
    synthesis = {**JOB.spec["synthesis"], "judge": {"openai": judge}}
    data = {**JOB.spec["data"], "task": "classification"}
    return replace(JOB, spec={**JOB.spec, "data": data, "synthesis": synthesis})


def with_answer_judge(secret: str, key: str) -> JobView:
    reference = {"name": secret, "key": key}
    judge = {"baseURL": "https://judge.example/v1", "model": "j", "apiKeySecretRef": reference}
    data = {**JOB.spec["data"], "task": "generation"}
    spec = {**JOB.spec, "data": data, "evaluation": {"judge": {"openai": judge}}}
    return replace(JOB, spec=spec)


def find_mounted_keys(pod: dict[str, Any]) -> dict[str, list[str]]:
    """Secret and mount path -> its keys that the pod sees."""
    paths = {one["name"]: one["mountPath"] for one in get_container(pod)["volumeMounts"]}
    secrets = [one for one in pod["spec"]["volumes"] if "secret" in one]
    return {
        f"{one['secret']['secretName']} {paths[one['name']]}": [
            item["key"] for item in one["secret"]["items"]
        ]
        for one in secrets
    }


def test_only_who_asks_the_teacher_gets_its_key():
    """A key in a pod that trains is a key that a model's or a row's exploit can take along."""
    for step in STEPS:
        pods = get_pods(build(Launch(step, 1), with_judge("judge", "K")))
        for role, pod in pods.items():
            seen = find_mounted_keys(pod)
            assert bool(seen) == (step == "prepare" and role == "head"), (step, role)


@pytest.mark.parametrize(
    ("secret", "key", "mounted"),
    [
        ("judge", "K", {"teacher": ["KEY"], "judge": ["K"]}),
        ("teacher", "K", {"teacher": ["K", "KEY"]}),
        ("teacher", "KEY", {"teacher": ["KEY"]}),
    ],
)
def test_the_judges_key_is_beside_the_teachers(secret, key, mounted):
    """Two volumes at one path are a pod that Kubernetes refuses; another key of the Secret is one
    more that can be stolen."""
    pod = get_pods(build(Launch("prepare", 1), with_judge(secret, key)))["head"]
    expected = {f"{name} /etc/loam/secrets/{name}": keys for name, keys in mounted.items()}
    assert find_mounted_keys(pod) == expected


@pytest.mark.parametrize(
    ("secret", "key", "by_step"),
    [
        (
            *("judge", "K"),
            {"prepare": {"teacher": ["KEY"], "judge": ["K"]}, "finish": {"judge": ["K"]}},
        ),
        (
            *("teacher", "K"),
            {"prepare": {"teacher": ["K", "KEY"]}, "finish": {"teacher": ["K"]}},
        ),
    ],
)
def test_who_judges_answers_is_asked_first_and_last(secret, key, by_step):
    """Its key is needed before any GPU is asked for, to see whether it answers, and in the step
    that asks it: there the teacher's is one that nobody needs, and what trains gets none."""
    job = with_answer_judge(secret, key)
    assert list_steps(check_spec(job)) == ("prepare", "train", "finish")
    for step in STEPS:
        for role, pod in get_pods(build(Launch(step, 1), job)).items():
            wanted = by_step.get(step, {}) if role == "head" else {}
            expected = {f"{name} /etc/loam/secrets/{name}": keys for name, keys in wanted.items()}
            assert find_mounted_keys(pod) == expected, (step, role)


def test_the_last_step_gets_what_the_first_has():
    """A judge's answers are read by what has prepared the data: it needs as much memory."""
    heads = [
        get_container(get_pods(build(Launch(step, 1), with_answer_judge("j", "K")))["head"])
        for step in ("prepare", "finish")
    ]
    assert heads[0]["resources"] == heads[1]["resources"]
    steps = [one["value"] for head in heads for one in head["env"] if one["name"] == "LOAM_STEP"]
    assert steps == ["prepare", "finish"]


def test_a_judge_is_not_waited_for_with_a_gpu():
    """The base model writes on a GPU, and where it writes no endpoint's key may be."""
    job = with_judge("judge", "K")
    synthesis = {**job.spec["synthesis"], "teacher": {"kind": "self"}}
    with pytest.raises(SpecError, match=r"spec\.synthesis\.judge: .* teacher of kind openai"):
        check_spec(replace(job, spec={**job.spec, "synthesis": synthesis}))


@pytest.mark.parametrize(
    ("step", "num_workers"), [("prepare", 0), ("generate", 2), ("train", 2), ("finish", 0)]
)
def test_no_gpu_is_held_by_what_needs_none(step, num_workers):
    """Idle GPUs are most of what such a cluster costs."""
    cluster = build(Launch(step, 1))["spec"]["rayClusterSpec"]
    assert sum(group["replicas"] for group in cluster["workerGroupSpecs"]) == num_workers
    head = get_container(cluster["headGroupSpec"]["template"])["resources"]
    assert "nvidia.com/gpu" not in head["limits"]


def test_secrets_are_references_only():
    """A value in a manifest is readable by whoever may read RayJobs."""
    secrets = {"storage", "teacher"}
    for role, pod in get_pods(build()).items():
        for node in walk(pod):
            if isinstance(node, dict) and set(node) >= {"name", "valueFrom"}:
                reference = node["valueFrom"].get("secretKeyRef")
                assert reference is None or reference["name"] in secrets, role
    environment = get_container(get_pods(build())["worker"])["env"]
    optional = {
        one["name"]: one["valueFrom"]["secretKeyRef"].get("optional", False)
        for one in environment
        if "valueFrom" in one
    }
    assert optional["AWS_ACCESS_KEY_ID"] is False  # its absence is to be seen as such
    assert optional["AWS_SESSION_TOKEN"] is True


def test_resources_are_the_jobs():
    pods = get_pods(build())
    head, worker = (get_container(pods[role])["resources"] for role in ("head", "worker"))
    assert head["requests"] == {"cpu": "200m", "memory": "2Gi"}
    assert worker["limits"] == {"memory": "3Gi", "nvidia.com/gpu": "1"}
    group = build()["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, 2)
    assert group["rayStartParams"]["num-cpus"] == "1"


def test_a_worker_gets_what_the_plan_needs():
    """A default that is too small costs an attempt, one that is too large a node."""
    compute = {"worker": {"cpu": "1"}}
    job = replace(JOB, spec={**JOB.spec, "compute": compute})
    for launch, memory in (
        (Launch("train", 2), "4Gi"),
        (Launch("train", 2, worker_memory="5120Mi"), "5120Mi"),
        (Launch("train", 2, worker_memory="5120Mi", memory_factor=1.5), "7680Mi"),
    ):
        worker = get_container(get_pods(build(launch, job))["worker"])
        assert worker["resources"]["limits"]["memory"] == memory


def test_more_memory_after_an_oom_kill():
    pods = get_pods(build(Launch("train", 2, memory_factor=1.5)))
    assert get_container(pods["worker"])["resources"]["limits"]["memory"] == "4608Mi"
    assert multiply_memory("513Mi", 1.5) == "770Mi"
    assert multiply_memory("2Ti", 2) == "4194304Mi"


@pytest.mark.parametrize("role", ["head", "worker"])
def test_the_kernel_says_who_ran_out_of_memory(role):
    """Killed by Ray's own monitor, a training dies of the same again in every restart, and no
    container is OOMKilled: the operator would have no reason to give it more."""
    environment = get_container(get_pods(build())[role])["env"]
    assert {"name": "RAY_memory_monitor_refresh_ms", "value": "0"} in environment


@pytest.mark.parametrize("role", ["head", "worker"])
def test_a_pod_that_is_up_is_seen_to_be(role):
    """KubeRay's own probe looks for the first time after 10 s, in which GPUs are held for nothing;
    and one that Ray never answers would keep every job from its start."""
    probe = get_container(get_pods(build())[role])["readinessProbe"]
    assert probe["initialDelaySeconds"] + probe["periodSeconds"] < 5
    # Ray's own: its agent's default port, which no start parameter changes.
    assert probe["httpGet"] == {"path": "/api/healthz", "port": 52365}
    cluster = build()["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert "dashboard-agent-listen-port" not in group["rayStartParams"]


@pytest.mark.parametrize("role", ["head", "worker"])
def test_pods_end_when_they_are_told_to(role):
    """By default Ray waits half a minute for servers that no job has: with a GPU that idles, and
    the next attempt waiting for it."""
    environment = get_container(get_pods(build())[role])["env"]
    assert {"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": "0"} in environment


@pytest.mark.parametrize("role", ["head", "worker"])
def test_a_pod_that_goes_saves_first(role):
    """The kubelet ends the processes when the hook returns, and kills them when the grace is over;
    Ray would kill a stopped job after 3 s."""
    pod = get_pods(build())[role]
    container = get_container(pod)
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == ["python", "-m", "loam_runtime.training.drain"]
    environment = {one["name"]: one.get("value", "") for one in container["env"]}
    assert environment["LOAM_DRAIN_DIR"].startswith("/tmp/")
    assert 30 < int(environment["RAY_JOB_STOP_WAIT_TIME_S"]) < 120
    assert pod["spec"]["terminationGracePeriodSeconds"] == 120


@pytest.mark.parametrize(
    "label",
    [
        "kueue.x-k8s.io/queue-name",
        "kueue.x-k8s.io/priority-class",
        "volcano.sh/queue-name",
        "ray.io/priority-class-name",
    ],
)
def test_a_queues_labels_are_handed_on(label: str):
    """A queue reads them on the RayJob: one that is lost there starts past the queue, or last."""
    metadata = {"namespace": "team", "name": "job", "uid": "uid", "resourceVersion": "1"}
    job = view_job({"metadata": {**metadata, "labels": {label: "gpus"}}, "spec": SPEC})
    assert build(job=job)["metadata"]["labels"][label] == "gpus"


def test_queue_labels_reach_the_ray_job_and_no_others():
    """Tracking labels of GitOps tools on a child make it theirs, and they delete it."""
    labels = build()["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "gpus"
    assert {name for name in labels if not name.startswith("loam.dev/")} == {
        "kueue.x-k8s.io/queue-name",
        "app.kubernetes.io/managed-by",
    }


def test_longest_names_fit():
    """Over 47 characters KubeRay refuses the RayJob, when it is too late for the user."""
    for step in STEPS:
        assert len(name_attempt("j" * 34, step, MAX_ATTEMPT_NUMBER)) <= 47


def test_every_child_is_owned_and_found_again():
    """One without an owner outlives its job; one without a label is never deleted at its end."""
    launch = Launch("train", 1)
    network = build_network_policy(JOB, None, SETTINGS)
    for child in [network, *build_children(JOB, Profile()), build(launch)]:
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == ("uid", True), child["kind"]
        assert child["metadata"]["labels"]["loam.dev/job-uid"] == "uid"
        assert child["metadata"]["labels"]["loam.dev/job"] == "job"


def test_the_manifest_is_the_users():
    """What the runtime reads must be what was validated, and nothing that Kubernetes added."""
    (manifest,) = [one for one in build_children(JOB, Profile()) if "immutable" in one]
    document = json.loads(manifest["data"]["job.yaml"])
    assert document["spec"] == JOB.spec
    assert document["metadata"] == {"name": "job", "namespace": "team"}


def test_small_jobs_need_no_secret():
    job = replace(JOB, spec=SPEC)
    assert "secretKeyRef" not in json.dumps(build(job=job))
