"""Every problem of a manifest is said at once, where it is, in words, without secrets."""

from __future__ import annotations

import copy
import math
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tools.cases import count_cases

from loam_api import endpoints
from loam_api.base import ApiModel
from loam_api.cross_checks import get_block
from loam_api.data_block import Task
from loam_api.endpoints import list_endpoints, needs_finish
from loam_api.exits import ExitCode
from loam_api.finetunejob import FineTuneJobSpec, OpenAITeacher
from loam_api.problems import show_value
from loam_api.validation import ManifestError, Problem, validate_manifest, validate_profile


def set_field(manifest: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The manifest with one field of spec set, blocks made on the way."""
    *parents, last = path.split(".")
    node = manifest["spec"]
    for name in parents:
        node = node.setdefault(name, {})
    node[last] = value
    return manifest


def find_problems(manifest: Any) -> dict[str, Problem]:
    with pytest.raises(ManifestError) as caught:
        validate_manifest(manifest)
    return {problem.path: problem for problem in caught.value.problems}


def test_valid_manifest_gets_defaults(manifest):
    """A short manifest is a whole job."""
    job = validate_manifest(manifest)
    assert job.spec.training.global_batch == 16
    assert job.spec.synthesis.teacher.kind == "self"


@pytest.mark.parametrize(
    ("path", "value", "accepted"),
    [
        ("training.lora.rank", 9999, "a whole number, at least 0 and at most 512"),
        ("training.lora.rank", "16", "a whole number"),
        ("training.lora.rank", 1.5, "a whole number"),
        ("training.lora.rank", True, "a whole number"),
        ("training.lora.dropout", 1, "at least 0 and below 1"),
        ("training.lora.dropout", math.nan, "a number"),
        ("training.lora.targetModules", [], "a list of 1 to 32 entries"),
        ("training.lora.targetModules", "q_proj", "a list"),
        ("training.method", "lora2", "auto, full, lora or qlora"),
        ("training.earlyStopping.enabled", "yes", "true or false"),
        ("training", [], "a block with the fields method, lora"),
        ("model.uri", "/data/model", "starts with s3://, file:// or hf://"),
        ("output.uri", "hf://org/model", "starts with s3:// or file://"),
        ("data.description", "x" * 8193, "at most 8192 characters"),
        ("data.template.labels", {"a": ""}, "1 to 128 characters"),
        ("synthesis.targetCount", 0, "at least 1"),
    ],
)
def test_bad_value_says_what_is_accepted(manifest, path, value, accepted):
    """A reader must be able to mend the field from the message alone."""
    (place, problem), *others = find_problems(set_field(manifest, path, value)).items()
    assert not others
    assert place.startswith(f"spec.{path}")
    assert accepted in problem.message


def test_all_errors_at_once(manifest):
    """One error per try costs a round trip each; rules must not wait for fields."""
    set_field(manifest, "training.lora.rnak", 8)
    set_field(manifest, "training.method", "lora")
    set_field(manifest, "training.full.sharding", "fullShard")
    set_field(manifest, "synthesis.targetCount", "many")
    set_field(manifest, "synthesis.strategy", "inContext")
    set_field(manifest, "data.task", "generation")
    del manifest["spec"]["model"]
    manifest["metadata"]["name"] = "Upper"
    assert set(find_problems(manifest)) == {
        "metadata.name",
        "spec.model",
        "spec.synthesis.strategy",
        "spec.synthesis.targetCount",
        "spec.training.lora.rnak",
        "spec.training.method",
    }


@pytest.mark.parametrize(
    ("path", "suggestion"),
    [
        ("training.lora.rnak", '"rank"'),
        ("training.learning_rate", '"learningRate"'),
        ("synthesis.teacher.baseUrl", "spec.synthesis.teacher.openai.baseURL"),
        ("lora", "spec.training.lora"),
        ("learning_rate", "spec.training.learningRate"),
    ],
)
def test_misspelt_field_suggests_the_right_one(manifest, path, suggestion):
    """Unknown fields are mostly misspelt or misplaced known ones."""
    problem = find_problems(set_field(manifest, path, 1))[f"spec.{path}"]
    assert suggestion in problem.suggestion
    assert "the fields are:" in problem.message


def test_misspelt_choice_suggests_the_right_one(manifest):
    """The same holds for a value from a list."""
    problem = find_problems(set_field(manifest, "training.method", "qlroa"))["spec.training.method"]
    assert problem.suggestion == 'did you mean "qlora"?'


JUDGE = {"openai": {"baseURL": "http://host/v1", "model": "j"}}
BROKEN_RULES = {
    "data.validation.uri": {"data": {"validation": {"mode": "uri"}}},
    "data.validation.mode": {"data": {"validation": {"uri": "file://v.csv"}}},
    "data.template.prompt": {"data": {"template": {"prompt": "Classify!"}}},
    "data.template.labels": {"data": {"template": {"labels": {"a": "x", "b": "x"}}}},
    "data.rowFormat": {"data": {"rowFormat": "text"}},
    "synthesis.budget.maxTokens": {"synthesis": {"budget": {"maxTokens": 10}}},
    "synthesis.budget.maxCost": {"synthesis": {"budget": {"maxCost": 0.5}}},
    "synthesis.teacher.openai": {"synthesis": {"teacher": {"kind": "openai"}}},
    "synthesis.teacher.kind": {
        "synthesis": {"teacher": {"openai": {"baseURL": "http://host/v1", "model": "m"}}}
    },
    "synthesis.onUntrustedFilter": {"synthesis": {"onUntrustedFilter": "judge"}},
    "synthesis.judge": {
        "synthesis": {"judge": JUDGE, "filters": {"consistency": {"enabled": False}}}
    },
    "synthesis.filters.unsafe.enabled": {"synthesis": {"filters": {"unsafe": {"enabled": True}}}},
    "synthesis.strategy": {"data": {"task": "generation"}, "synthesis": {"strategy": "inContext"}},
    "training.lora.targetModules": {"training": {"lora": {"targetModules": ["a", "a"]}}},
    "training.method": {"training": {"method": "qlora", "full": {"sharding": "fullShard"}}},
    "training.microBatch": {"training": {"globalBatch": 4, "microBatch": 8}},
    "evaluation.baselines": {"evaluation": {"baselines": ["majority", "majority"]}},
    "evaluation.judge": {"evaluation": {"judge": JUDGE}},
    "compute.workers.min": {"compute": {"workers": {"min": 2, "max": 1}}},
}


@pytest.mark.parametrize("path", BROKEN_RULES)
def test_broken_rule_is_reported_alone(manifest, path):
    """Each cross-field rule is reported at its field, and by the model itself as well."""
    for block, values in BROKEN_RULES[path].items():
        manifest["spec"].setdefault(block, {}).update(values)
    assert list(find_problems(manifest)) == [f"spec.{path}"]
    with pytest.raises(ValueError, match=r"\w"):
        FineTuneJobSpec.model_validate(manifest["spec"])


@pytest.mark.parametrize(
    ("task", "values", "path"),
    [
        ("text", {"rowFormat": "chat"}, "rowFormat"),
        ("generation", {"template": {"labels": {"a": "b"}}}, "template.labels"),
    ],
)
def test_rules_of_a_task(manifest, task, values, path):
    """Settings that a task would ignore are refused."""
    manifest["spec"]["data"] |= {"task": task, **values}
    assert list(find_problems(manifest)) == [f"spec.data.{path}"]


def test_a_judge_is_for_classification(manifest):
    """Nobody else's rows have labels: a judge that is never asked is no judge. What is unsafe it is
    asked of any task, if it follows instructions."""
    manifest["spec"]["data"]["task"] = "generation"
    manifest["spec"]["synthesis"] = {"targetCount": 1, "judge": JUDGE}
    assert list(find_problems(manifest)) == ["spec.synthesis.judge"]
    manifest["spec"]["synthesis"]["filters"] = {"unsafe": {"enabled": True}}
    validate_manifest(manifest)
    base_model = {"openai": {**JUDGE["openai"], "endpoint": "completions"}}
    manifest["spec"]["synthesis"]["judge"] = base_model
    assert list(find_problems(manifest)) == ["spec.synthesis.filters.unsafe.enabled"]


@pytest.mark.parametrize(
    ("evaluation", "path"),
    [
        ({"judge": {"openai": {**JUDGE["openai"], "endpoint": "completions"}}}, "openai.endpoint"),
        ({"judge": {**JUDGE, "budget": {"maxTokens": 1023}}}, "budget.maxTokens"),
        ({"judge": {**JUDGE, "budget": {"maxCost": 1}}}, "budget.maxCost"),
        ({"judge": {**JUDGE, "maxRows": 0}}, "maxRows"),
        ({"judge": {**JUDGE, "maxRows": 10_001}}, "maxRows"),
        ({"judge": {**JUDGE, "criteria": "x" * 8193}}, "criteria"),
        ({"judge": JUDGE, "baselines": ["majority"]}, ""),
        ({"judge": JUDGE, "baselines": []}, ""),
        ({"judge": {"criteria": "brevity"}}, "openai"),
    ],
)
def test_a_judge_of_answers_that_could_not_work_is_refused(manifest, evaluation, path):
    """It would be found out only after the training was paid for."""
    manifest["spec"]["data"]["task"] = "generation"
    manifest["spec"]["evaluation"] = evaluation
    place = f"spec.evaluation.judge.{path}" if path else "spec.evaluation.baselines"
    assert list(find_problems(manifest)) == [place]


@pytest.mark.parametrize("task", get_args(Task))
def test_a_judge_of_answers_is_for_free_text(manifest, task):
    """A label is right or wrong without an opinion, and plain text has no answer."""
    manifest["spec"]["data"]["task"] = task
    manifest["spec"]["evaluation"] = {"judge": JUDGE}
    if task in ("classification", "text"):
        assert list(find_problems(manifest)) == ["spec.evaluation.judge"]
    else:
        assert needs_finish(validate_manifest(manifest).spec)


def test_every_endpoint_of_a_job_is_listed(manifest):
    """What is left out of the list is asked with no key, no check of its address and no limit."""
    spec = validate_manifest(manifest).spec
    assert list_endpoints(spec) == ()
    assert not needs_finish(spec)
    manifest["spec"]["data"]["task"] = "generation"
    manifest["spec"]["evaluation"] = {"judge": JUDGE}
    manifest["spec"]["synthesis"] = {
        "targetCount": 1,
        "teacher": {"kind": "openai", **JUDGE},
        "judge": JUDGE,
        "filters": {"unsafe": {"enabled": True}},
    }
    listed = {one.role: one.field for one in list_endpoints(validate_manifest(manifest).spec)}
    assert listed == {
        "teacher": "synthesis.teacher.openai",
        "judge": "synthesis.judge.openai",
        "answerJudge": "evaluation.judge.openai",
    }


def test_every_block_that_names_an_endpoint_is_listed():
    """A new place for an endpoint must come with its role."""

    def find(model: type[ApiModel], path: str) -> Iterator[str]:
        for field in model.model_fields.values():
            block = get_block(field)
            if block is OpenAITeacher:
                yield f"{path}{field.alias}"
            elif block is not None:
                yield from find(block, f"{path}{field.alias}.")

    assert set(find(FineTuneJobSpec, "")) == set(endpoints._ROLES)


@pytest.mark.parametrize(
    ("teacher", "judge", "is_accepted"),
    [
        ("self", {"prices": {"prompt": 1, "completion": 2}}, True),
        ("self", {}, False),
        ("gpt-4o", {"model": "gpt-4o-mini"}, True),
        ("gpt-4o", {}, False),
        ("m", {"prices": {"prompt": 1, "completion": 2}}, False),
    ],
)
def test_money_is_limited_where_all_prices_are_known(manifest, teacher, judge, is_accepted):
    """A limit that one of two endpoints does not count under is none."""
    openai = {"baseURL": "http://host/v1", "model": teacher}
    kind = {"kind": "self"} if teacher == "self" else {"kind": "openai", "openai": openai}
    manifest["spec"]["synthesis"] = {
        "targetCount": 1,
        "teacher": kind,
        "judge": {"openai": {**JUDGE["openai"], **judge}},
        "budget": {"maxCost": 1.0},
    }
    if is_accepted:
        assert validate_manifest(manifest).spec.synthesis.budget.max_cost == 1
    else:
        assert list(find_problems(manifest)) == ["spec.synthesis.budget.maxCost"]


def test_a_whole_number_may_be_written_with_a_point(manifest):
    """The API server takes 2.0 for a whole number; 2.5 it does not."""
    job = validate_manifest(set_field(manifest, "training.epochs", 2.0))
    assert job == validate_manifest(set_field(manifest, "training.epochs", 2))
    assert validate_manifest(set_field(manifest, "training.seed", 7.0)).spec.training.seed == 7
    assert "spec.training.seed" in find_problems(set_field(manifest, "training.seed", 7.5))


def test_null_is_a_field_left_out(manifest):
    """The API server drops nulls before defaulting; the laptop must not differ."""
    manifest["spec"]["synthesis"] = None
    manifest["spec"]["training"] = {"lora": None, "seed": None}
    job = validate_manifest(manifest)
    assert job.spec.synthesis is None
    assert job.spec.training.seed == 0


def test_status_and_server_metadata_are_passed_over(manifest):
    """What `kubectl get -o yaml` prints must be a manifest that runs."""
    manifest["metadata"] |= {"uid": "1", "generation": 3, "labels": {"team": "a"}}
    manifest["status"] = {"phase": "Unheard", "later": {}}
    assert validate_manifest(manifest).status is None


def test_python_names_are_not_manifest_names(manifest):
    """The API server would drop `row_format`; accepting it here would make two products."""
    problems = find_problems(set_field(manifest, "data.row_format", "auto"))
    assert list(problems) == ["spec.data.row_format"]


def test_secrets_are_never_shown(manifest):
    """Error messages reach logs, CI output and issue trackers."""
    secret = "sk-abcdefghijklmnop"
    teacher = {"kind": "openai", "openai": {"apiKey": secret, "model": [secret]}}
    teacher["openai"] |= {"baseURL": f"https://user:{secret}@host/v1", "apiKeySecretRef": secret}
    set_field(manifest, "synthesis.teacher", teacher)
    set_field(manifest, "data.task", secret)
    with pytest.raises(ManifestError) as caught:
        validate_manifest(manifest)
    assert len(caught.value.problems) >= 5
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\nb\x1b[31m", '"a\\nb\\u001b[31m"'),
        ("x" * 100, '"' + "x" * 60 + '…"'),
        ({"a": 1}, "a block"),
        ([1, 2], "a list of 2"),
        (False, "false"),
        (None, "nothing"),
        ("https://me:pass@host", '"https://(hidden)@host"'),
    ],
)
def test_shown_value_is_one_short_line(value, shown):
    """A value with control characters could repaint the terminal it is printed on."""
    assert show_value("spec.x", value) == shown


@pytest.mark.parametrize("document", [None, [], "text", 3, {}, {"kind": "Job"}])
def test_not_a_job_at_all(document):
    """Whatever a file holds, the answer is a list of problems."""
    assert find_problems(document)


def test_document_that_holds_itself(manifest):
    """A YAML alias can make a block its own child; walking it must end."""
    manifest["spec"]["training"] = manifest["spec"]
    assert any("too deeply" in problem.message for problem in find_problems(manifest).values())


def test_names_that_yaml_reads_as_something_else(manifest):
    """`yes: Yes` under labels is a boolean key; it must not become the label "True"."""
    manifest["spec"]["data"]["template"] = {"labels": {True: "Yes"}}
    assert "quotes" in find_problems(manifest)["spec.data.template.labels"].message


def test_error_survives_a_process_boundary(manifest):
    """Errors cross processes by pickle; a lost argument would hide every problem."""
    error = ManifestError((Problem("spec.a", "1", "must be 2"),))
    copied = pickle.loads(pickle.dumps(error))
    assert copied.problems == error.problems
    assert copied.exit_code is ExitCode.BAD_MANIFEST
    assert copied.problems[0].to_dict()["path"] == "spec.a"


def list_problems(document: Any) -> tuple[Problem, ...] | None:
    try:
        validate_manifest(document)
    except ManifestError as error:
        return error.problems
    return None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def list_paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in [(*prefix, k), *list_paths(v, (*prefix, k))]]
    if isinstance(value, list):
        pairs = enumerate(value)
        return [p for i, v in pairs for p in [(*prefix, i), *list_paths(v, (*prefix, i))]]
    return []


FULL = {
    "apiVersion": "loam.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "full", "namespace": "default"},
    "spec": {
        "model": {"uri": "file://m", "revision": ""},
        "data": {
            "seeds": {"uri": "file://s", "fileFormat": "csv"},
            "task": "classification",
            "template": {"prompt": "{input}", "labels": {"a": "A"}},
            "validation": {"mode": "uri", "uri": "s3://b/v"},
            "domainConstraints": ["be brief"],
        },
        "synthesis": {
            "targetCount": 3,
            "teacher": {
                "kind": "openai",
                "openai": {
                    "baseURL": "http://h/v1",
                    "model": "m",
                    "apiKeySecretRef": {"name": "n", "key": "k"},
                },
            },
            "budget": {"maxRequests": 3, "maxTokens": 1000},
        },
        "training": {
            "lora": {"rank": 4, "targetModules": ["q_proj"]},
            "full": {"sharding": "none"},
        },
        "output": {"uri": "file://o", "merge": False},
        "compute": {"workers": {"min": 1, "max": 1}},
    },
}
PATHS = list_paths(FULL)


@settings(max_examples=count_cases(100), deadline=None)
@given(path=st.sampled_from(PATHS), value=JSON_VALUES)
def test_any_value_anywhere_gives_a_job_or_problems(path, value):
    """A crash with a traceback is no answer, whatever stands where."""
    document = copy.deepcopy(FULL)
    node: Any = document
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    problems = list_problems(document)
    assert problems is None or (problems and all(problem.message for problem in problems))


def test_rules_hold_for_the_entries_of_a_list():
    """A rule that is tried on single blocks alone lets every list pass."""
    document = {
        "apiVersion": "loam.dev/v1alpha1",
        "kind": "FineTuneProfile",
        "metadata": {"name": "gpu"},
        "spec": {"pods": {"head": {"tolerations": [{"key": "a"}, {"key": "b", "value": "c"}]}}},
    }
    with pytest.raises(ManifestError) as caught:
        validate_profile(document)
    (problem,) = caught.value.problems
    assert problem.path == "spec.pods.head.tolerations[1].value"
    assert "only with operator: Equal" in problem.message


def test_the_page_about_judges_has_a_judge_to_copy(manifest):
    """An example that is refused teaches nothing but distrust."""
    page = Path(__file__).parents[3] / "docs" / "judges.md"
    (block,) = re.findall(r"(?m)^    synthesis:\n(?:     .*\n)+", page.read_text())
    manifest["spec"] |= yaml.safe_load(block)
    synthesis = validate_manifest(manifest).spec.synthesis
    assert synthesis.on_untrusted_filter == "judge"
    assert synthesis.list_endpoints()["synthesis.judge.openai"].find_prices().completion == 10
    (block,) = re.findall(r"(?m)^    evaluation:\n(?:     .*\n)+", page.read_text())
    del manifest["spec"]["synthesis"]
    manifest["spec"]["data"]["task"] = "generation"
    manifest["spec"] |= yaml.safe_load(block)
    assert validate_manifest(manifest).spec.evaluation.judge.budget.max_cost == 5
