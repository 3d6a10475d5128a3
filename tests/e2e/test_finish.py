"""A remote judge of answers is asked by a small pod, when the workers and their GPUs are gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from kubernetes import client
from tests.tools.fault_teacher import Call, Reply, serve_script
from tests.tools.free_text_job import (
    NUM_TEST_ROWS,
    NUM_TRIAL_QUESTIONS,
    is_trial,
    judge_well,
    write_free_text_job,
)
from tests.tools.node import Node
from tests.tools.node_job import TRAINING, NodeJob
from tests.tools.node_network import GATEWAY

PROFILE = "judged"
PROFILES = {"group": "loam.dev", "version": "v1alpha1", "plural": "finetuneprofiles"}
TIMEOUT_SECONDS = 600


@contextmanager
def allow_teacher(node: Node, base_url: str) -> Iterator[None]:
    """A profile that lets jobs ask at a private address, which is refused otherwise."""
    api = client.CustomObjectsApi(node.control_plane.client)
    head = {"apiVersion": "loam.dev/v1alpha1", "kind": "FineTuneProfile"}
    spec = {"allow": {"teachers": [f"{base_url}/"]}}
    api.create_cluster_custom_object(
        **PROFILES, body={**head, "metadata": {"name": PROFILE}, "spec": spec}
    )
    try:
        yield
    finally:  # or no other job would find a profile of its own
        api.delete_cluster_custom_object(**PROFILES, name=PROFILE)


def test_no_worker_waits_for_a_judge(node: Node, job: NodeJob):
    """A judge takes minutes to hours, in which each GPU of the workers would be paid for."""
    workers_while_judged: list[str] = []

    def look_and_judge(call: Call) -> Reply:
        if call.number and is_trial(call.question):  # the very first asks whether it is there
            workers_while_judged.extend(pod.metadata.name for pod in job.list_pods("worker"))
        return judge_well(call)

    with (
        serve_script(look_and_judge, GATEWAY) as server,
        allow_teacher(node, server.base_url),
    ):
        judge = {"openai": {"baseURL": server.base_url, "model": "judge-9b", "concurrency": 1}}
        job.apply(
            write=partial(write_free_text_job, judge=judge),
            data=job.build_data("generation"),
            training={**TRAINING, "epochs": 1},
            compute={"profile": PROFILE},
        )
        status = job.await_success(TIMEOUT_SECONDS)
        assert server.num_repeated == 0
    assert workers_while_judged == []
    assert [one["step"] for one in status["attempts"]] == ["prepare", "train", "finish"]
    judged = job.read_json("stages/judge.json")["result"]
    assert judged["num_rows"] == NUM_TEST_ROWS
    # Besides, each head that asks has seen first whether the judge is there.
    assert NUM_TRIAL_QUESTIONS <= judged["usage"]["spent_requests"] <= server.num_requests
    assert "The judge judge-9b" in judged["text"]
    job.delete()
