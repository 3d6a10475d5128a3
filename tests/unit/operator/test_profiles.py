"""Profiles: whose rules a job is under, what they refuse in which words, and what its pods get."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.lane import Lane
from tests.unit.operator.test_rayjob import JOB, SETTINGS, get_container, get_pods
from tests.unit.operator.world import START, make_profile

from loam_api.finetuneprofile import FineTuneProfileSpec, NamespaceSelector
from loam_api.ports import METRICS_PORT
from loam_api.synthesis_block import TokenPrices
from loam_api.teacher_prices import LIST_PRICES
from loam_operator.addresses import find_inner, is_under
from loam_operator.admission import list_excesses
from loam_operator.checking import check_spec
from loam_operator.children import build_children
from loam_operator.decision import Launch
from loam_operator.effective import apply_profile
from loam_operator.network import build_network_policy
from loam_operator.placement import place
from loam_operator.pods import build_head_pod
from loam_operator.profiles import Profile, matches
from loam_operator.rayjob import build_ray_job
from loam_operator.starting import SETTLING_SECONDS
from loam_operator.views import view_pod


def read_profile(**spec: Any) -> Profile:
    return Profile("gpu", FineTuneProfileSpec.model_validate(spec), json.dumps(spec))


def find_excesses(profile: Profile, **spec: Any) -> list[str]:
    job = replace(JOB, spec={**JOB.spec, **spec})
    return list_excesses(check_spec(job), job.queue_labels, profile, has_started=False)


# --- addresses ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("s3://bucket/team/a", "s3://bucket/team"),
        ("s3://bucket/team", "s3://bucket/team/"),
        ("s3://bucket/team", "s3://bucket"),
        ("hf://google/gemma-3-270m", "hf://google"),
        ("hf://anyone/any", "hf://"),
        ("https://API.example:443/v1", "https://api.example"),
        ("http://10.0.0.5:8000/v1", "http://10.0.0.5:8000/v1"),
    ],
)
def test_addresses_under_a_prefix(address, prefix):
    assert is_under(address, prefix)


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("s3://bucket/team-b", "s3://bucket/team"),
        ("s3://bucket-b/x", "s3://bucket"),
        ("s3://bucket/team/../other", "s3://bucket/team"),
        ("s3://bucket/team/./x", "s3://bucket/team"),
        ("s3://bucket/team/%2e%2e/other", "s3://bucket/team"),
        ("s3://bucket/team\\..\\other", "s3://bucket/team"),
        ("s3://bucket//team/x", "s3://bucket/team"),
        ("s3://Bucket/team", "s3://bucket/team"),
        ("s3:///team", "s3://"),
        ("hf://s3/x", "s3://"),
        ("http://api.example/v1", "https://api.example"),
        ("https://api.example:8443/v1", "https://api.example"),
        ("https://api.example.evil/v1", "https://api.example"),
        ("https://api.example\\@evil/v1", "https://api.example"),
        ("https://api.example#@evil/v1", "https://api.example"),
        ("https://api.example?x=/v1", "https://api.example"),
    ],
)
def test_addresses_beside_a_prefix(address, prefix):
    """Each of these begins like the prefix to some reader, and leads somewhere else."""
    assert not is_under(address, prefix)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "http://127.1/v1",
        "http://2130706433/v1",
        "http://0x7f000001/v1",
        "http://017700000001/v1",
        "http://0.0.0.0/v1",
        "http://10.1.2.3/v1",
        "http://100.64.0.1/v1",
        "http://169.254.169.254/latest",
        "http://[::1]/v1",
        "http://[fe80::1]/v1",
        "http://[fd00::1]/v1",
        "http://[::ffff:10.0.0.1]/v1",
        "http://[::127.0.0.1]/v1",
        "http://[64:ff9b::a00:1]/v1",
        "http://[2002:a00:1::]/v1",
        "http://localhost/v1",
        "http://LOCALHOST./v1",
        "http://teacher/v1",
        "http://teacher.team.svc:8000/v1",
        "http://teacher.team.svc.cluster.local/v1",
        "http://metadata.google.internal/v1",
        "https://\uff11\uff12\uff17.0.0.1/v1",
        "https://exa%6dple.com/v1",
    ],
)
def test_inner_addresses_need_a_profile(url):
    """A teacher inside is how a job would talk to the cloud's metadata or to another team."""
    assert find_inner(url)
    teacher = {"kind": "openai", "openai": {"baseURL": url, "model": "m"}}
    synthesis = {"targetCount": 10, "teacher": teacher}
    for profile in (
        Profile(),
        read_profile(allow={"teachers": ["http://", "https://"]}),
        read_profile(allow={"teachers": ["https://api.example"]}),
    ):
        (excess,) = find_excesses(profile, synthesis=synthesis)
        assert excess.startswith("spec.synthesis.teacher.openai.baseURL: ")
        assert "allow.teachers" in excess


def test_an_inner_judge_needs_a_profile_too():
    """A judge's address is one more that a job could talk to the cloud's metadata by."""
    judge = {"openai": {"baseURL": "http://169.254.169.254/v1", "model": "m"}}
    (excess,) = find_excesses(Profile(), data=LABELLED, synthesis={**JUDGED, "judge": judge})
    assert excess.startswith("spec.synthesis.judge.openai.baseURL: ")


def test_a_listed_inner_teacher_is_allowed():
    """A model server of the platform's own is the cheapest teacher there is."""
    teacher = {"kind": "openai", "openai": {"baseURL": "http://vllm.ai.svc:8000/v1", "model": "m"}}
    profile = read_profile(allow={"teachers": ["http://vllm.ai.svc:8000"]})
    assert not find_excesses(profile, synthesis={"targetCount": 10, "teacher": teacher})


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "https://8.8.8.8/v1"])
def test_public_teachers_need_no_profile(url):
    assert not find_inner(url)


# --- what is refused ---------------------------------------------------------------------------
WORKERS = {"workers": {"min": 9, "max": 9}, "worker": {"gpus": 1, "memory": "80Gi"}}
PAID = {"kind": "openai", "openai": {"baseURL": "https://api.example/v1", "model": "m"}}
OWN_PRICES = {
    "kind": "openai",
    "openai": {**PAID["openai"], "prices": {"prompt": 0.01, "completion": 0.01}},
}
PRICE = {"model": "m", "prompt": 3.0, "completion": 15.0}
LABELLED = {"seeds": {"uri": "s3://bucket/seeds.jsonl"}, "task": "classification"}
JUDGED = {
    "targetCount": 1,
    "teacher": PAID,
    "judge": {
        "openai": {
            "baseURL": "https://judge.example/v1",
            "model": "j",
            "apiKeySecretRef": {"name": "k", "key": "K"},
        }
    },
}


def judge_answers(**budget: float) -> dict[str, Any]:
    endpoint = JUDGED["judge"]["openai"]
    priced = {"prices": {"prompt": 1.0, "completion": 1.0}} if "maxCost" in budget else {}
    return {"judge": {"openai": {**endpoint, **priced}, "budget": budget}}


ANSWERS_JUDGED = {
    "data": {**LABELLED, "task": "generation"},
    "synthesis": {"targetCount": 1, "teacher": PAID},
    "evaluation": judge_answers(),
}


@pytest.mark.parametrize(
    ("rules", "spec", "words"),
    [
        (
            {"allow": {"models": ["s3://models", "hf://google"]}},
            {},
            [
                'spec.model.uri: "s3://bucket/model" is not allowed by FineTuneProfile gpu: '
                "one of s3://models, hf://google (allow.models)."
            ],
        ),
        (
            {"allow": {"outputs": []}},
            {},
            [
                'spec.output.uri: "s3://bucket/out" is not allowed by FineTuneProfile gpu: '
                "none (allow.outputs)."
            ],
        ),
        (
            {"allow": {"secrets": ["storage"]}},
            {},
            ['apiKeySecretRef.name: "teacher" is not allowed', "(allow.secrets)"],
        ),
        (
            {"allow": {"teachers": ["https://api.example"]}},
            {"data": LABELLED, "synthesis": JUDGED},
            ['spec.synthesis.judge.openai.baseURL: "https://judge.example/v1" is not allowed'],
        ),
        (
            {"limits": {"teacherCost": 9.5}, "teacherPrices": [PRICE]},
            {"data": LABELLED, "synthesis": JUDGED},
            ['spec.synthesis.judge.openai.model: "j" has no price in teacherPrices'],
        ),
        (
            {"allow": {"secrets": ["storage"]}},
            {"data": LABELLED, "synthesis": JUDGED},
            ['spec.synthesis.judge.openai.apiKeySecretRef.name: "k" is not allowed'],
        ),
        (
            {"allow": {"serviceAccounts": []}},
            {"compute": {"serviceAccountName": "admin"}},
            ['spec.compute.serviceAccountName: "admin" is not allowed', "(allow.serviceAccounts)"],
        ),
        (
            {"allow": {"queues": ["cpus"]}},
            {},
            ['metadata.labels[kueue.x-k8s.io/queue-name]: "gpus" is not allowed', "one of cpus"],
        ),
        (
            {"limits": {"workers": 8}},
            {"compute": WORKERS},
            [
                "spec.compute.workers.max: 9 is more than the 8 that FineTuneProfile gpu allows "
                "(limits.workers)."
            ],
        ),
        (
            {"limits": {"gpus": 8}},
            {"compute": WORKERS},
            ["spec.compute.worker.gpus: 9 (9 workers) is more than the 8", "(limits.gpus)"],
        ),
        (
            {"limits": {"memoryPerPod": "64Gi"}},
            {"compute": WORKERS},
            ["spec.compute.worker.memory: 80Gi is more than the 64Gi", "(limits.memoryPerPod)"],
        ),
        (
            {"limits": {"activeDeadlineSeconds": 60}},
            {"activeDeadlineSeconds": 61},
            ["spec.activeDeadlineSeconds: 61 is more than the 60"],
        ),
        (
            {"limits": {"teacherTokens": 1000}},
            {"synthesis": {"targetCount": 1, "teacher": PAID, "budget": {"maxTokens": 2000}}},
            ["spec.synthesis.budget.maxTokens: 2000 is more than the 1000", "limits.teacherTokens"],
        ),
        (
            {"limits": {"teacherRequests": 10}},
            {"synthesis": {"targetCount": 1, "teacher": PAID, "budget": {"maxRequests": 11}}},
            ["spec.synthesis.budget.maxRequests: 11 is more than the 10"],
        ),
        (
            {"limits": {"teacherCost": 9.5}, "teacherPrices": [PRICE]},
            {"synthesis": {"targetCount": 1, "teacher": OWN_PRICES, "budget": {"maxCost": 10}}},
            ["spec.synthesis.budget.maxCost: 10 is more than the 9.5", "limits.teacherCost"],
        ),
        (
            {"limits": {"teacherCost": 9.5}},
            {"synthesis": {"targetCount": 1, "teacher": OWN_PRICES}},
            [
                'openai.model: "m" has no price in teacherPrices',
                "limits.teacherCost cannot be kept",
            ],
        ),
        (
            {"allow": {"teachers": ["https://api.example"]}},
            ANSWERS_JUDGED,
            ['spec.evaluation.judge.openai.baseURL: "https://judge.example/v1" is not allowed'],
        ),
        (
            {"allow": {"secrets": ["storage", "teacher"]}},
            ANSWERS_JUDGED,
            ['spec.evaluation.judge.openai.apiKeySecretRef.name: "k" is not allowed'],
        ),
        (
            {"limits": {"teacherCost": 9.5}, "teacherPrices": [PRICE]},
            ANSWERS_JUDGED,
            ['spec.evaluation.judge.openai.model: "j" has no price in teacherPrices'],
        ),
        (
            {"limits": {"teacherRequests": 10}},
            {**ANSWERS_JUDGED, "evaluation": judge_answers(maxRequests=11)},
            ["spec.evaluation.judge.budget.maxRequests: 11 is more than the 10"],
        ),
        (
            {"limits": {"teacherTokens": 3000}},
            {**ANSWERS_JUDGED, "evaluation": judge_answers(maxTokens=4000)},
            ["spec.evaluation.judge.budget.maxTokens: 4000 is more than the 3000"],
        ),
        (
            {
                "limits": {"teacherCost": 9.5},
                "teacherPrices": [PRICE, {**PRICE, "model": "j"}],
            },
            {**ANSWERS_JUDGED, "evaluation": judge_answers(maxCost=10)},
            ["spec.evaluation.judge.budget.maxCost: 10 is more than the 9.5"],
        ),
        (
            {"limits": {"teacherTokens": 1000}},
            ANSWERS_JUDGED,
            ["spec.evaluation.judge.maxTokens: 1024 is more than the 1000", "limits.teacherTokens"],
        ),
        (
            {"limits": {"teacherTokens": 255}},
            {"synthesis": {"targetCount": 1, "teacher": PAID}},
            ["spec.synthesis.sampling.maxTokens: 256 is more than the 255", "limits.teacherTokens"],
        ),
        (
            {
                "limits": {"teacherCost": 1},
                "teacherPrices": [{**PRICE, "baseURL": "http://vllm.ai.svc"}],
            },
            {"synthesis": {"targetCount": 1, "teacher": PAID}},
            ['openai.model: "m" has no price in teacherPrices'],
        ),
    ],
)
def test_an_excess_names_field_value_and_limit(rules, spec, words):
    """ "Forbidden" without the limit is a ticket to the platform team instead of an answer."""
    (excess,) = find_excesses(read_profile(**rules), **spec)
    for word in words:
        assert word in excess


def test_a_job_outside_of_all_queues_is_refused():
    """A queue that one can leave out by leaving out a label limits nobody."""
    job = replace(JOB, queue_labels={})
    profile = read_profile(allow={"queues": ["gpus"]})
    (excess,) = list_excesses(check_spec(job), {}, profile, has_started=False)
    assert "wants one of gpus" in excess


def test_all_excesses_are_told_at_once():
    profile = read_profile(allow={"models": [], "outputs": []}, limits={"workers": 1})
    assert len(find_excesses(profile)) == 3


def test_an_empty_profile_forbids_nothing():
    assert not find_excesses(read_profile(), compute=WORKERS)


OURS: dict[str, Any] = {"namespaceSelector": {"matchLabels": {"team": "ours"}}}


# --- whose rules -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("labels", "is_matched"),
    [
        ({"team": "a", "tier": "gold"}, True),
        ({"team": "b", "tier": "gold"}, False),
        ({"team": "a"}, False),
        ({"team": "a", "tier": "gold", "frozen": ""}, False),
        ({"team": "a", "tier": "gold", "zone": "x"}, False),
    ],
)
def test_selectors_are_kubernetes(labels, is_matched):
    selector = NamespaceSelector.model_validate(
        {
            "matchLabels": {"team": "a"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["gold", "silver"]},
                {"key": "tier", "operator": "Exists"},
                {"key": "zone", "operator": "NotIn", "values": ["x"]},
                {"key": "frozen", "operator": "DoesNotExist"},
            ],
        }
    )
    assert matches(selector, labels) is is_matched


def test_a_missing_profile_is_waited_for():
    """A job that fails because GitOps applied it first would have to be written anew."""
    lane = Lane(compute={"profile": "gpu"})
    lane.work()
    assert lane.state == "ProfileUnavailable"
    assert "FineTuneProfile gpu does not exist." in lane.message
    assert not lane.world.ray_jobs
    lane.world.profiles["gpu"] = make_profile("gpu")
    lane.run_until("Succeeded")
    assert lane.status.profile.name == "gpu"


def test_the_message_follows_the_trouble():
    """Who created the missing profile and still reads that it is missing looks in vain."""
    lane = Lane(compute={"profile": "gpu"})
    lane.work()
    lane.world.profiles["gpu"] = make_profile(
        "gpu", namespaceSelector={"matchLabels": {"team": "a"}}
    )
    lane.work()
    assert "is not for this namespace" in lane.message
    lane.world.namespace_labels = {"team": "a"}
    lane.run_until("Succeeded")


def test_other_peoples_defaults_are_no_loophole():
    """Once a cluster has profiles, a job that none is for must not run without rules."""
    lane = Lane()
    lane.world.profiles["theirs"] = make_profile(
        "theirs", default=True, namespaceSelector={"matchLabels": {"team": "theirs"}}
    )
    lane.work()
    assert lane.state == "ProfileUnavailable"
    assert "the job must name one" in lane.message


def test_two_defaults_are_not_guessed_between():
    lane = Lane()
    for name in ("a", "b"):
        lane.world.profiles[name] = make_profile(name, default=True)
    lane.work()
    assert "a and b are both the default" in lane.message


def test_a_profile_can_be_required():
    lane = Lane()
    lane.world.is_profile_required = True
    lane.work()
    assert lane.state == "ProfileUnavailable"


def test_a_refused_job_starts_nothing_and_may_try_again():
    """A refusal is the end, yet the platform team's change of mind must not need a new job."""
    lane = Lane()
    lane.world.profiles["gpu"] = make_profile("gpu", default=True, allow={"models": []})
    lane.work()
    assert (lane.state, lane.reasons) == ("NotAllowed", [])
    assert "spec.model.uri" in lane.message
    assert "platform team" in lane.message
    lane.world.profiles["gpu"] = make_profile("gpu", default=True)
    lane.world.update_job(retry_token="again")
    lane.run_until("Succeeded")


def test_a_refusal_waits_for_what_is_applied_with_the_job():
    """`kubectl apply -f folder` may bring the profile after the job; a refusal is the end."""
    lane = Lane()
    lane.world.profiles["gpu"] = make_profile("gpu", default=True, allow={"models": []})
    lane.world.update_job(created_at=START)
    lane.work()
    assert (lane.state, lane.world.counts.total) == ("", 0)
    lane.world.profiles["gpu"] = make_profile("gpu", default=True)
    lane.work(1)
    assert lane.state == "Starting"


@pytest.mark.parametrize("age", [SETTLING_SECONDS, -3600], ids=["later", "by a clock behind"])
def test_a_refusal_waits_no_longer_than_that(age):
    """Whoever is refused should hear of it, whatever the operator's clock says."""
    lane = Lane()
    lane.world.profiles["gpu"] = make_profile("gpu", default=True, allow={"models": []})
    lane.world.update_job(created_at=START)
    lane.world.seconds = age
    lane.work()
    assert lane.state == "NotAllowed"


def test_a_running_job_keeps_to_the_rules_of_its_start():
    """A profile made stricter must not end the jobs that were admitted under the old one."""
    lane = Lane()
    lane.world.profiles["gpu"] = make_profile("gpu", default=True)
    lane.run_until("Training")
    before = lane.status.profile
    lane.world.profiles["gpu"] = make_profile("gpu", default=True, allow={"models": []})
    lane.world.replace_head("job-train-a2")
    lane.run_until("Succeeded")
    assert lane.reasons == ["Succeeded", "HeadLost", "Succeeded"]
    assert lane.status.profile == before


def test_a_retry_by_hand_takes_the_rules_as_they_are():
    """The platform team's correction would otherwise reach a failed job only as a new one."""
    lane = Lane()
    lane.world.namespace_labels = {"team": "ours"}
    lane.world.profiles["gpu"] = make_profile("gpu", default=True, **OURS)
    lane.run_until("BadInput", 10)
    before = lane.status.profile
    lane.world.profiles["gpu"] = make_profile("gpu", default=True, **OURS, limits={"gpus": 0})
    lane.world.update_job(retry_token="again")
    lane.run_until("Succeeded")
    assert lane.status.profile.name == before.name
    assert lane.status.profile.digest != before.digest


def test_a_forged_copy_is_not_believed():
    """Who may write ConfigMaps in a namespace must not thereby write their own rules."""
    lane = Lane()
    lane.world.namespace_labels = {"team": "ours"}
    lane.world.profiles["gpu"] = make_profile("gpu", default=True, **OURS)
    lane.run_until("Training")
    lane.world.profile_copy = '{"name": "mine", "spec": {}}'
    lane.world.profiles["gpu"] = make_profile("gpu", default=True, **OURS, allow={"models": []})
    lane.world.copied_in = -1
    lane.world.replace_head("job-train-a2")
    lane.run_until("NotAllowed")


def test_the_profiles_deadline_is_every_jobs():
    lane = Lane()
    lane.world.profiles["gpu"] = make_profile(
        "gpu", default=True, limits={"activeDeadlineSeconds": 60}
    )
    lane.run_until("Preparing")
    lane.world.change_spec(activeDeadlineSeconds=100_000)
    lane.world.seconds += 61
    lane.work()
    assert lane.state == "DeadlineExceeded"


# --- what pods get -----------------------------------------------------------------------------
PODS = {
    "image": "registry.example/other:2",
    "sharedMemory": "8Gi",
    "priorityClassName": "research",
    "head": {"cpu": "2", "memory": "6Gi", "nodeSelector": {"pool": "cpu"}},
    "worker": {
        "cpu": "8",
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu"}],
        "topologySpread": [{"topologyKey": "zone"}],
    },
}


def run_under(profile: Profile, job: Any = JOB, launch: Launch | None = None) -> dict[str, Any]:
    launch = replace(launch or Launch("train", 1), profile=profile)
    job = apply_profile(job, profile)
    return place(build_ray_job(job, check_spec(job), launch, SETTINGS), profile.spec)


def test_pods_are_placed_by_the_profile():
    pods = get_pods(run_under(read_profile(pods=PODS)))
    assert {get_container(pod)["image"] for pod in pods.values()} == {PODS["image"]}
    assert {pod["spec"]["priorityClassName"] for pod in pods.values()} == {"research"}
    selectors = {role: pod["spec"]["nodeSelector"]["pool"] for role, pod in pods.items()}
    assert selectors == {"head": "cpu", "submitter": "cpu", "worker": "gpu"}
    assert pods["worker"]["spec"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    (spread,) = pods["worker"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"]["loam.dev/job-uid"] == "uid"
    (shm,) = [one for one in pods["worker"]["spec"]["volumes"] if one["name"] == "shm"]
    assert shm["emptyDir"]["sizeLimit"] == "8Gi"


def test_resources_are_the_jobs_first():
    """The profile's are for jobs that do not say."""
    pods = get_pods(run_under(read_profile(pods=PODS)))
    assert get_container(pods["head"])["resources"]["requests"]["cpu"] == "200m"
    job = replace(JOB, spec={**JOB.spec, "compute": {}})
    pods = get_pods(run_under(read_profile(pods=PODS), job))
    assert get_container(pods["head"])["resources"]["limits"]["memory"] == "6Gi"
    assert get_container(pods["head"])["resources"]["requests"]["cpu"] == "2"
    assert get_container(pods["worker"])["resources"]["requests"]["cpu"] == "8"


def test_memory_grows_within_the_profile_only():
    """An OOM kill, three times over, would end on a node that nobody else then gets."""
    profile = read_profile(limits={"memoryPerPod": "4Gi"})
    pods = get_pods(run_under(profile, launch=Launch("train", 4, memory_factor=3.375)))
    assert get_container(pods["worker"])["resources"]["limits"]["memory"] == "4Gi"
    assert get_container(pods["worker"])["resources"]["requests"]["memory"] == "4Gi"


def test_the_lower_budget_counts():
    """A job without a budget would otherwise have no limit where the profile has one."""
    profile = read_profile(limits={"teacherTokens": 500, "teacherRequests": 7})
    spec = {**JOB.spec["synthesis"], "budget": {"maxTokens": 100}}
    job = apply_profile(replace(JOB, spec={**JOB.spec, "synthesis": spec}), profile)
    assert job.spec["synthesis"]["budget"] == {"maxTokens": 100, "maxRequests": 7}
    assert "budget" not in JOB.spec["synthesis"]


@given(
    model=st.sampled_from(["m", next(iter(LIST_PRICES))]),
    own=st.none() | st.floats(0, 10),
    asked=st.sampled_from([0, 0.5, 2, 100]),
    stated=st.none() | st.floats(0, 10),
    most=st.sampled_from([0.5, 5]),
)
def test_a_limit_of_money_holds_whatever_the_job_says(
    model: str, own: float | None, asked: float, stated: float | None, most: float
):
    """A job that gives its teacher's prices itself would pass any limit with low ones."""
    prices = [] if stated is None else [{"model": model, "prompt": stated, "completion": stated}]
    profile = read_profile(limits={"teacherCost": most}, teacherPrices=prices)
    teacher: dict[str, Any] = {"baseURL": "https://api.example/v1", "model": model}
    if own is not None:
        teacher["prices"] = {"prompt": own, "completion": own}
    if model not in LIST_PRICES and own is None:
        asked = 0  # the manifest would not be valid
    spec = {
        "targetCount": 1,
        "teacher": {"kind": "openai", "openai": teacher},
        "budget": {"maxCost": asked},
    }
    excesses = find_excesses(profile, synthesis=spec)
    if asked > most or (stated is None and model not in LIST_PRICES):
        assert excesses
        return
    assert not excesses
    job = apply_profile(replace(JOB, spec={**JOB.spec, "synthesis": spec}), profile)
    effective = check_spec(job).synthesis
    counted = effective.teacher.openai.find_prices()
    by_list = LIST_PRICES.get(model, ())
    truth = (stated, stated) if stated is not None else by_list
    assert (counted.prompt, counted.completion) == truth
    if any(truth):
        assert 0 < effective.budget.max_cost <= most
    else:  # free: the runtime takes no budget of money without prices
        assert effective.budget.max_cost == 0


def test_prices_of_the_profile_are_the_reports():
    """What the platform pays is what the user reads, also where nothing is limited."""
    profile = read_profile(teacherPrices=[{**PRICE, "baseURL": "https://other.example"}, PRICE])
    spec = {"targetCount": 1, "teacher": OWN_PRICES}
    job = apply_profile(replace(JOB, spec={**JOB.spec, "synthesis": spec}), profile)
    assert job.spec["synthesis"]["teacher"]["openai"]["prices"] == {"prompt": 3, "completion": 15}
    unruled = apply_profile(replace(JOB, spec={**JOB.spec, "synthesis": spec}), Profile())
    assert unruled.spec["synthesis"]["teacher"] == OWN_PRICES


@pytest.mark.parametrize("has_teacher", [True, False])
def test_who_judges_answers_is_paid_within_the_limits(has_teacher: bool):
    """A judge under no budget, or at prices that its job gives, is the way around the teacher's
    limits; and it costs money also where nobody else is asked."""
    profile = read_profile(
        limits={"teacherTokens": 5000, "teacherRequests": 7, "teacherCost": 2.5},
        teacherPrices=[PRICE, {**PRICE, "model": "j"}],
    )
    spec = {**ANSWERS_JUDGED, "evaluation": judge_answers(maxCost=1.5, maxTokens=9000)}
    if not has_teacher:
        spec = {**spec, "synthesis": {"targetCount": 1}}
    job = replace(JOB, spec={**JOB.spec, **spec})
    effective = check_spec(apply_profile(job, profile))
    judge = effective.evaluation.judge
    assert judge.openai.prices == TokenPrices(prompt=3.0, completion=15.0)
    budget = {"max_requests": 7, "max_tokens": 5000, "max_cost": 1.5}
    assert judge.budget.model_dump() == budget
    given = effective.synthesis.budget.model_dump()
    assert any(given.values()) == has_teacher
    assert job.spec["evaluation"]["judge"]["budget"]["maxTokens"] == 9000


@pytest.mark.parametrize("resource", ["amd.com/gpu", "nvidia.com/mig-1g.5gb"])
def test_gpus_are_asked_for_by_their_clusters_name(resource: str):
    """Pods that ask for a resource that no node has wait for ever; and what is asked for has to be
    found again on the pods, or nobody counts it."""
    job = replace(JOB, spec={**JOB.spec, "compute": {"worker": {"gpus": 1}}})
    pods = get_pods(run_under(read_profile(pods={"worker": {"gpuResource": resource}}), job))
    worker = get_container(pods["worker"])["resources"]
    assert worker["limits"][resource] == worker["requests"][resource] == "1"
    assert "nvidia.com/gpu" not in json.dumps(pods)
    metadata = {"name": "p", "uid": "u", "resourceVersion": "1", **pods["worker"]["metadata"]}
    assert view_pod({**pods["worker"], "metadata": metadata}).gpus == 1
    assert "annotations" not in pods["head"]["metadata"]


@pytest.mark.parametrize("resource", ["", "gpu", "nvidia.com/", "/gpu", "nvidia.com/gpu extra"])
def test_a_resource_that_can_be_none_is_refused(resource: str):
    """The API server would refuse each job's pods instead, long after the profile was written."""
    with pytest.raises(ValueError, match="gpuResource"):
        read_profile(pods={"worker": {"gpuResource": resource}})


def test_workload_identity_replaces_the_jobs_own_account():
    """The head's right to tell its progress goes with whoever it is."""
    job = replace(JOB, spec={**JOB.spec, "compute": {"serviceAccountName": "s3-writer"}})
    children = build_children(job, Profile())
    assert not [one for one in children if one["kind"] == "ServiceAccount"]
    (binding,) = [one for one in children if one["kind"] == "RoleBinding"]
    assert binding["subjects"][0]["name"] == "s3-writer"
    pods = get_pods(run_under(Profile(), job))
    for role in ("head", "worker"):
        assert pods[role]["spec"]["serviceAccountName"] == "s3-writer"
        assert pods[role]["spec"]["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pods["submitter"]["spec"]


# --- network -----------------------------------------------------------------------------------
def test_only_the_job_kuberay_and_monitoring_come_in():
    settings = replace(
        SETTINGS,
        kuberay_pods={"app": "kuberay"},
        monitoring_namespaces={"kubernetes.io/metadata.name": "monitoring"},
    )
    policy = build_network_policy(JOB, None, settings)["spec"]
    own = {"matchLabels": {"loam.dev/job-uid": "uid"}}
    assert policy["podSelector"] == own
    assert policy["policyTypes"] == ["Ingress"]
    siblings, kuberay, monitoring = policy["ingress"]
    assert siblings == {"from": [{"podSelector": own}]}
    assert kuberay["from"][0]["podSelector"] == {"matchLabels": {"app": "kuberay"}}
    assert kuberay["ports"] == [{"port": 8265, "protocol": "TCP"}]
    assert [one["port"] for one in monitoring["ports"]] == [METRICS_PORT, 8080]
    assert "podSelector" not in monitoring["from"][0]


def test_answers_of_a_namespace_lie_where_the_platform_says():
    """Beside the output only jobs with the same output find them, and the others pay again."""
    for settings, expected in (({}, []), ({"teacherCache": "s3://b/answers"}, ["s3://b/answers"])):
        launch = Launch("prepare", 1, profile=read_profile(**settings))
        pod = build_head_pod(JOB, check_spec(JOB), launch, SETTINGS)
        environment = pod["spec"]["containers"][0]["env"]
        found = [one["value"] for one in environment if one["name"] == "LOAM_TEACHER_CACHE"]
        assert found == expected
    with pytest.raises(ValueError, match="s3://"):
        read_profile(teacherCache="file:///tmp/answers")


def test_limited_egress_leaves_out_what_is_inside():
    """A teacher's name that resolves to the cloud's metadata must lead nowhere."""
    profile = read_profile(egress={"cidrs": ["10.96.0.1/32"]})
    policy = build_network_policy(JOB, profile.spec.egress, SETTINGS)["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    blocks = [one["ipBlock"] for one in policy["egress"][-1]["to"]]
    assert {"cidr": "10.96.0.1/32"} in blocks
    (world,) = [one for one in blocks if one["cidr"] == "0.0.0.0/0"]
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(world["except"])
    closed = read_profile(egress={"public": False}).spec.egress
    policy = build_network_policy(JOB, closed, SETTINGS)["spec"]
    assert "ipBlock" not in json.dumps(policy)
    assert policy["egress"][1]["ports"][0] == {"port": 53, "protocol": "UDP"}


@pytest.mark.parametrize(("judge_costs", "most"), [(2.0, 9.5), (0.0, 0.0)])
def test_prices_of_the_profile_are_the_judges_too(judge_costs, most):
    """A judge that its job calls free would be paid beyond any limit in money; and where teacher
    and judge are both free, the runtime takes no budget of money."""
    free = {"prompt": 0.0, "completion": 0.0}
    stated = {"prompt": judge_costs, "completion": judge_costs}
    profile = read_profile(
        limits={"teacherCost": 9.5},
        teacherPrices=[{"model": "m", **free}, {"model": "j", **stated}],
    )
    judge = {"openai": {**JUDGED["judge"]["openai"], "prices": free}}
    job = replace(JOB, spec={**JOB.spec, "synthesis": {**JUDGED, "judge": judge}})
    synthesis = apply_profile(job, profile).spec["synthesis"]
    assert synthesis["judge"]["openai"]["prices"] == stated
    assert synthesis["budget"].get("maxCost", 0.0) == most
