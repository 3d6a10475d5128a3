"""The run key changes with the result, and with nothing else."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam_api.cross_checks import get_block
from loam_api.finetunejob import FineTuneJob, FineTuneJobSpec
from loam_api.run_key import IGNORED_FIELDS, KEY_LENGTH, compute_run_key

DIGESTS = {"seeds_digest": "s", "model_digest": "m", "runtime_version": "1"}


def build_job(spec: dict[str, Any] | None = None, name: str = "a", **blocks: Any) -> FineTuneJob:
    base = {
        "model": {"uri": "file://m"},
        "data": {"seeds": {"uri": "file://s"}, "task": "classification"},
        "output": {"uri": "file://o"},
    }
    head = {"apiVersion": "loam.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": name}}
    return FineTuneJob.model_validate({**head, "spec": spec or {**base, **blocks}})


def test_key_is_short_hex_and_stable():
    """The key is a folder name; a changed way to compute it would run every job again."""
    key = compute_run_key(build_job(), **DIGESTS)
    assert len(key) == KEY_LENGTH
    assert int(key, 16) >= 0
    assert key == compute_run_key(build_job(name="other"), **DIGESTS)


def test_key_follows_the_content_of_the_database():
    """Queries are kept by what runs in it; where the file lies is no part of the result."""
    settings = {"structured": {"database": {"uri": "s3://b/geo.sqlite"}}}
    moved = {"structured": {"database": {"uri": "s3://c/geo.sqlite"}}}
    jobs = [
        build_job(synthesis={"targetCount": 1, "filters": filters}) for filters in (settings, moved)
    ]
    one, other = (compute_run_key(job, **DIGESTS, database_digest="d") for job in jobs)
    assert one == other != compute_run_key(jobs[0], **DIGESTS, database_digest="e")


def shuffle(value: Any, rng: random.Random) -> Any:
    """Equal content in another order of keys."""
    if not isinstance(value, dict):
        return value
    items = [(key, shuffle(child, rng)) for key, child in value.items()]
    rng.shuffle(items)
    return dict(items)


@given(
    seed=st.integers(0, 2**32),
    rank=st.integers(0, 512),
    epochs=st.sampled_from([0, 1, 2.5]),
    temperature=st.floats(0, 2),
    labels=st.dictionaries(
        st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8), max_size=4
    ).filter(lambda labels: len(set(labels.values())) == len(labels)),
)
def test_key_ignores_order_and_spelling(seed, rank, epochs, temperature, labels):
    """The same experiment written differently must find its finished run."""
    spec = {
        "model": {"uri": "file://m"},
        "data": {
            "seeds": {"uri": "file://s"},
            "task": "classification",
            "template": {"labels": labels},
        },
        "synthesis": {"targetCount": 5, "sampling": {"temperature": temperature, "topK": 3}},
        "training": {"lora": {"rank": rank}, "epochs": epochs, "globalBatch": 8},
        "output": {"uri": "file://o"},
    }
    key = compute_run_key(build_job(spec), **DIGESTS)
    shuffled = shuffle(spec, random.Random(seed))
    assert compute_run_key(build_job(shuffled), **DIGESTS) == key
    snake = build_job(spec).spec.model_dump(by_alias=False)
    assert compute_run_key(build_job(snake), **DIGESTS) == key
    explicit = build_job(spec).spec.model_dump(by_alias=True)
    assert compute_run_key(build_job(explicit), **DIGESTS) == key


@pytest.mark.parametrize(
    "blocks",
    [
        {"model": {"uri": "s3://moved/m", "revision": "main"}},
        {"data": {"seeds": {"uri": "s3://moved/s"}, "task": "classification"}},
        {"output": {"uri": "s3://elsewhere"}},
        {"training": {"microBatch": 2, "checkpoint": {"everySeconds": 1}}},
        {"compute": {"workers": {"min": 2, "max": 2}, "device": "cpu"}},
    ],
)
def test_key_ignores_what_leaves_the_result_alone(blocks):
    """A moved bucket or another worker count must not pay for the same result twice."""
    assert compute_run_key(build_job(**blocks), **DIGESTS) == compute_run_key(
        build_job(), **DIGESTS
    )


def test_key_ignores_a_raised_budget():
    """A run that stopped at its budget goes on under the same key once it is raised."""
    keys = {
        compute_run_key(
            build_job(synthesis={"targetCount": 5, "budget": {"maxRequests": limit}}), **DIGESTS
        )
        for limit in (1, 10, 0)
    }
    assert len(keys) == 1


def test_key_follows_who_judges():
    """Other judges keep other rows; how fast one is asked and what it is paid changes none."""

    def compute(**judge: Any) -> str:
        openai = {"baseURL": "http://h/v1", "model": "j", **judge}
        synthesis = {"targetCount": 1, "judge": {"openai": openai}}
        return compute_run_key(build_job(synthesis=synthesis), **DIGESTS)

    without = compute_run_key(build_job(synthesis={"targetCount": 1}), **DIGESTS)
    assert len({without, compute(), compute(model="k"), compute(baseURL="http://i/v1")}) == 4
    prices = {"prompt": 1, "completion": 1}
    assert compute() == compute(concurrency=1, prices=prices, timeoutSeconds=5, mode="batch")


def test_key_follows_the_judge_of_answers():
    """Another judge, or one told to look for something else, gives another report; its key, its
    pace, its prices and a raised budget do not."""
    data = {"seeds": {"uri": "file://s"}, "task": "generation"}

    def compute(openai: dict[str, Any] | None = None, **judge: Any) -> str:
        asked = {"openai": {"baseURL": "http://h/v1", "model": "j", **(openai or {})}, **judge}
        return compute_run_key(build_job(data=data, evaluation={"judge": asked}), **DIGESTS)

    without = compute_run_key(build_job(data=data), **DIGESTS)
    other = compute({"model": "k"}), compute(criteria="brevity"), compute(maxRows=9)
    assert len({without, compute(), *other}) == 5
    prices = {"prompt": 1, "completion": 1}
    reference = {"name": "s", "key": "k"}
    paced = {"concurrency": 1, "prices": prices, "timeoutSeconds": 5, "mode": "batch"}
    budget = {"maxRequests": 9}
    assert compute() == compute({**paced, "apiKeySecretRef": reference}, budget=budget)


@pytest.mark.parametrize(
    "blocks",
    [
        {"training": {"seed": 1}},
        {"training": {"method": "lora"}},
        {"synthesis": {"targetCount": 1}},
        {"output": {"uri": "file://o", "merge": True}},
        {"evaluation": {"inContextShots": 1}},
        {"data": {"seeds": {"uri": "file://s"}, "task": "generation"}},
    ],
)
def test_key_follows_the_experiment(blocks):
    """Two experiments under one key would show one the other's result."""
    assert compute_run_key(build_job(**blocks), **DIGESTS) != compute_run_key(
        build_job(), **DIGESTS
    )


@pytest.mark.parametrize(
    "name",
    ["seeds_digest", "model_digest", "runtime_version", "test_digest", "validation_digest"],
)
def test_key_follows_the_inputs(name):
    """Changed data at the same address is another run."""
    changed = compute_run_key(build_job(), **{**DIGESTS, name: "changed"})
    assert changed != compute_run_key(build_job(), **DIGESTS)


def test_digests_are_not_interchangeable():
    """Swapping test and validation data is another experiment."""
    one = compute_run_key(build_job(), **DIGESTS, test_digest="x", validation_digest="y")
    other = compute_run_key(build_job(), **DIGESTS, test_digest="y", validation_digest="x")
    assert one != other


@pytest.mark.parametrize("path", IGNORED_FIELDS)
def test_ignored_fields_exist(path):
    """A renamed field would silently start to count."""
    model = FineTuneJobSpec
    for step in path.split("."):
        by_alias = {field.alias: field for field in model.model_fields.values()}
        assert step in by_alias
        model = get_block(by_alias[step]) or model
