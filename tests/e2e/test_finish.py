"""A remote judge of answers is asked by a small pod, when the workers and their GPUs are gone."""

from __future__ import annotations

from functools import partial

from tests.tools.fault_teacher import Call, Reply, serve_script
from tests.tools.free_text_job import is_trial, judge_well, write_free_text_job
from tests.tools.node_job import TRAINING, NodeJob
from tests.tools.node_network import GATEWAY

TIMEOUT_SECONDS = 300


def test_no_worker_waits_for_a_judge(job: NodeJob):
    """A judge takes minutes to hours, in which each GPU of the workers would be paid for."""
    workers_while_judged: list[str] = []

    def look_and_judge(call: Call) -> Reply:
        if call.number and is_trial(call.question):  # the very first asks whether it is there
            workers_while_judged.extend(pod.metadata.name for pod in job.list_pods("worker"))
        return judge_well(call)

    with serve_script(look_and_judge, GATEWAY) as server:
        judge = {"openai": {"baseURL": server.base_url, "model": "judge-9b", "concurrency": 1}}
        job.apply(
            write=partial(write_free_text_job, judge=judge),
            data=job.build_data("generation"),
            training={**TRAINING, "epochs": 1},
        )
        status = job.await_success(TIMEOUT_SECONDS)
        assert server.num_requests > 40
        assert server.num_repeated == 0
    assert workers_while_judged == []
    assert [one["step"] for one in status["attempts"]] == ["prepare", "train", "finish"]
    assert "The judge judge-9b" in job.read_message()
    assert job.read_json("manifest.json")
    job.delete()
