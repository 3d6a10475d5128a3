"""A real API server says of a FineTuneJob what `loam validate` says."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from kubernetes import client
from tests.tools.cases import count_cases
from tests.tools.control_plane import ControlPlane
from tests.tools.custom_objects import FineTuneJobs
from tests.tools.manifest_mutations import bend_manifest

from loam_api.crd import JOB_COLUMNS, KINDS, build_crd
from loam_api.validation import ManifestError, validate_manifest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/job.yaml"))
MANIFESTS: list[dict[str, Any]] = [yaml.safe_load(file.read_text("utf-8")) for file in EXAMPLES]
BASE = next(
    manifest for manifest in MANIFESTS if manifest["spec"]["synthesis"]["strategy"] == "inContext"
)
NUM_BENT_MANIFESTS = 400
CRD = "finetunejobs.loam.dev"


@pytest.fixture(scope="module")
def jobs(control_plane: ControlPlane) -> FineTuneJobs:
    """The jobs of one namespace for the whole file: nothing is written but what a test names."""
    return FineTuneJobs(control_plane.client, control_plane.create_namespace())


def validate(manifest: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """What `loam validate` says: the job with its defaults, or the refusal."""
    try:
        job = validate_manifest(copy.deepcopy(manifest))
    except ManifestError as error:
        return None, str(error)
    return job.model_dump(mode="json", by_alias=True, exclude_none=True)["spec"], ""


def collect_messages(node: Any) -> Iterator[str]:
    """The messages of all rules in a CRD's schema."""
    if isinstance(node, dict):
        rules = node.get("x-kubernetes-validations")
        yield from (rule["message"] for rule in (rules if isinstance(rules, list) else []))
        for child in node.values():
            yield from collect_messages(child)


def test_the_schema_is_structural(control_plane: ControlPlane):
    """The server prunes and defaults only by a structural schema; another is merely stored."""
    api = client.ApiextensionsV1Api(control_plane.client)
    conditions = api.read_custom_resource_definition(CRD).status.conditions
    states = {condition.type: condition.status for condition in conditions}
    assert states["Established"] == "True"
    assert states["NamesAccepted"] == "True"
    assert states.get("NonStructuralSchema", "False") == "False"


def test_columns_are_printed(control_plane: ControlPlane, jobs: FineTuneJobs):
    """`kubectl get finetunejobs` must show the phase and progress, not a name and an age."""
    table = jobs.read_table()
    names = [column["name"] for column in table["columnDefinitions"]]
    assert names == ["Name", *(column["name"] for column in JOB_COLUMNS)]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=[file.parent.name for file in EXAMPLES])
def test_examples_are_accepted_with_the_same_defaults(jobs: FineTuneJobs, manifest):
    """A field left out must mean the same on a laptop and in a cluster."""
    accepted, refusal = jobs.try_create(manifest)
    assert accepted, refusal
    assert accepted["spec"] == validate(manifest)[0]


@settings(max_examples=count_cases(NUM_BENT_MANIFESTS))
@given(manifest=bend_manifest(MANIFESTS))
def test_server_and_validate_agree(jobs: FineTuneJobs, manifest):
    """What one accepts and the other refuses fails only once a cluster was paid for, or never."""
    accepted, refusal = jobs.try_create(manifest)
    expected, problem = validate(manifest)
    assert bool(accepted) == bool(expected), f"server: {refusal}\nvalidate: {problem}"
    if accepted:
        assert accepted["spec"] == expected


@pytest.mark.parametrize("space", [" ", "\t", "\x0b", "\x85", "\xa0", "\u2003"])
def test_white_space_in_an_address_is_seen_alike(jobs: FineTuneJobs, space: str):
    """In patterns `\\s` is another set in the API server's Go than in pydantic's Rust."""
    openai = {"baseURL": f"https://ho{space}st/v1", "model": "m"}
    teacher = {"kind": "openai", "openai": openai}
    manifest = put(MANIFESTS[0], "spec.synthesis", {"targetCount": 1, "teacher": teacher})
    accepted, refusal = jobs.try_create(manifest)
    expected, problem = validate(manifest)
    assert bool(accepted) == bool(expected), f"server: {refusal}\nvalidate: {problem}"


def put(manifest: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of the manifest with another value at a path such as `spec.training.method`."""
    changed = copy.deepcopy(manifest)
    *blocks, name = path.split(".")
    block = changed
    for step in blocks:
        block = block.setdefault(step, {})
    block[name] = value
    return changed


JUDGE = {"openai": {"baseURL": "https://host/v1", "model": "j"}}
# One manifest for each cross-field rule; its words are what server and command must both say.
BROKEN_RULES = {
    "min cannot be larger": ("compute.workers", {"min": 2, "max": 1}),
    "mode uri needs the address": ("data.validation", {"mode": "uri"}),
    "a uri is read only with mode: uri": ("data.validation", {"uri": "file://x"}),
    "the wording must say where the input goes": ("data.template.prompt", "Answer:"),
    "two labels cannot be written alike": ("data.template.labels", {"a": "x", "b": "x"}),
    "rowFormat must be auto or text": ("data", {"task": "text", "rowFormat": "chat"}),
    "they need task: text": ("data.rowFormat", "text"),
    "only with task: classification": (
        "data",
        {"task": "generation", "template": {"labels": {"a": "b"}}},
    ),
    "each baseline may be named once": ("evaluation.baselines", ["majority", "majority"]),
    "a judge compares with the base model's own answers": (
        "",
        {
            "data": {"seeds": {"uri": "file://s"}, "task": "extraction"},
            "synthesis": {"targetCount": 1},
            "evaluation": {"judge": JUDGE, "baselines": ["majority"]},
        },
    ),
    "answers are compared by a model that follows instructions": (
        "",
        {
            "data": {"seeds": {"uri": "file://s"}, "task": "generation"},
            "synthesis": {"targetCount": 1},
            "evaluation": {"judge": {"openai": {**JUDGE["openai"], "endpoint": "completions"}}},
        },
    ),
    "a budget below evaluation.judge.maxTokens": (
        "",
        {
            "data": {"seeds": {"uri": "file://s"}, "task": "generation"},
            "synthesis": {"targetCount": 1},
            "evaluation": {"judge": {**JUDGE, "budget": {"maxTokens": 1}}},
        },
    ),
    "a budget in money needs a judge whose prices are known": (
        "",
        {
            "data": {"seeds": {"uri": "file://s"}, "task": "generation"},
            "synthesis": {"targetCount": 1},
            "evaluation": {"judge": {**JUDGE, "budget": {"maxCost": 1.5}}},
        },
    ),
    "labels and plain text are measured without a judge": ("evaluation.judge", JUDGE),
    "goes class by class": ("data.task", "generation"),
    "kind openai needs the block openai": ("synthesis.teacher", {"kind": "openai"}),
    "the block openai is read only": (
        "synthesis.teacher",
        {"openai": {"baseURL": "https://host/v1", "model": "m"}},
    ),
    "a budget below sampling.maxTokens": ("synthesis.budget.maxTokens", 1),
    # A whole number: the API server would take it for more than a bound of 0.5.
    "share less than half": (
        "synthesis",
        {"targetCount": 1, "filters": {"embeddingDuplicates": {"similarity": 0}}},
    ),
    "whose prices are known": ("synthesis.budget.maxCost", 1.5),
    "onUntrustedFilter judge needs a judge": ("synthesis.onUntrustedFilter", "judge"),
    "filters.consistency or filters.unsafe must be enabled": (
        "synthesis",
        {"targetCount": 1, "judge": JUDGE, "filters": {"consistency": {"enabled": False}}},
    ),
    "whether a row is unsafe is asked of a model": (
        "synthesis",
        {"targetCount": 1, "filters": {"unsafe": {"enabled": True}}},
    ),
    "a judge judges labels, or what is unsafe: it needs": (
        "",
        {
            "data": {"seeds": {"uri": "file://s"}, "task": "generation"},
            "synthesis": {"targetCount": 1, "judge": JUDGE},
        },
    ),
    "a language is named by its ISO 639-1 code": ("synthesis.languages", {"german": 0.5}),
    "inContext goes on in the seeds' own language": (
        "synthesis",
        {"targetCount": 9, "strategy": "inContext", "languages": {"de": 1.0}},
    ),
    "mode batch asks the chat endpoint": (
        "synthesis.teacher",
        {
            "kind": "openai",
            "openai": {
                "baseURL": "https://host/v1",
                "model": "m",
                "mode": "batch",
                "endpoint": "completions",
            },
        },
    ),
    "each module may be named once": ("training.lora.targetModules", ["q", "q"]),
    "sharding is for full fine-tuning": (
        "training",
        {"method": "lora", "full": {"sharding": "fullShard"}},
    ),
    "microBatch cannot be larger": ("training", {"microBatch": 4, "globalBatch": 2}),
    "a rationale before its answer": ("training", {"rationale": "prefix", "rationaleWeight": 2.0}),
    "shards are as large": (
        "",
        {
            "training": {"method": "full", "full": {"sharding": "fullShard"}},
            "compute": {"workers": {"min": 1, "max": 2}},
        },
    ),
}
# Said of an update, or of the name: tests of their own below.
ABOUT_CHANGES = ("spec cannot be changed", "a budget can be raised", "metadata.name")
BAD_NAMES = ["a" * 35, "Upper", "1st", "dash-"]


@pytest.mark.parametrize("words", BROKEN_RULES)
def test_a_broken_rule_is_told_in_the_same_words(jobs: FineTuneJobs, words):
    """Whoever tries a manifest in one place and applies it in the other is told one thing."""
    path, value = BROKEN_RULES[words]
    if path == "data":
        value = {**BASE["spec"]["data"], **value}
    if path:
        broken = put(BASE, f"spec.{path}", value)
    else:
        broken = put(BASE, "spec", {**BASE["spec"], **value})
    for _, refusal in (jobs.try_create(broken), validate(broken)):
        assert words in refusal


def test_the_table_has_every_rule():
    """A new rule without a row above would be tried on no server."""
    messages = set(collect_messages(build_crd(KINDS[0])["spec"]["versions"][0]["schema"]))
    covered = (*BROKEN_RULES, *ABOUT_CHANGES)
    assert [message for message in messages if not any(w in message for w in covered)] == []


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_children_cannot_carry_are_refused(jobs: FineTuneJobs, name):
    """RayJobs are named after the job: a name too long would fail only once it runs."""
    broken = put(BASE, "metadata.name", name)
    for _, refusal in (jobs.try_create(broken), validate(broken)):
        assert "name" in refusal


@pytest.fixture(scope="module")
def created(jobs: FineTuneJobs) -> dict[str, Any]:
    """A job that exists, with a budget."""
    return jobs.create(put(BASE, "spec.synthesis.budget", {"maxTokens": 10_000}))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("suspend", True),
        ("backoffLimit", 0),
        ("activeDeadlineSeconds", 60),
        ("clusterTTLSeconds", 0),
        ("synthesis.budget.maxTokens", 20_000),
        ("synthesis.budget.maxTokens", 0),
    ],
)
def test_what_steers_a_running_job_may_change(jobs: FineTuneJobs, created, path, value):
    """A rule that forbids too much would make a job unstoppable."""
    assert jobs.try_change(created, put(created, f"spec.{path}", value)["spec"]) == ""


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("model.uri", "file://other", "a changed experiment is a new name"),
        ("model.revision", "v2", "a changed experiment is a new name"),
        ("training.seed", 1, "a changed experiment is a new name"),
        ("training.lora.rank", 8, "a changed experiment is a new name"),
        ("data.template.system", "Be brief.", "a changed experiment is a new name"),
        ("synthesis.targetCount", 7, "a changed experiment is a new name"),
        ("output.merge", True, "a changed experiment is a new name"),
        ("synthesis.budget.maxTokens", 9_000, "raised or lifted"),
    ],
)
def test_the_experiment_may_not_change(jobs: FineTuneJobs, created, path, value, words):
    """A spec changed under a running job would be half of two experiments."""
    assert words in jobs.try_change(created, put(created, f"spec.{path}", value)["spec"])


def test_a_block_may_not_be_taken_away(jobs: FineTuneJobs, created):
    """Without `has` on both sides the rule would fail on, or pass, a removed block."""
    spec = {name: block for name, block in created["spec"].items() if name != "synthesis"}
    assert "a changed experiment is a new name" in jobs.try_change(created, spec)
