"""A job with a judge of answers, by the command a user types, over real HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.tools.fault_teacher import Call, FaultTeacher, Reply, serve_script
from tests.tools.free_text_job import (
    NUM_TEST_ROWS,
    NUM_TRIAL_QUESTIONS,
    judge_well,
    write_free_text_job,
)
from tests.tools.tiny_job import find_run, run_loam, start_loam
from tests.tools.waiting import wait_until

from loam_runtime.export.manifest import verify_manifest

pytestmark = pytest.mark.usefixtures("without_ray")

PRICES = {"prompt": 1_000.0, "completion": 10_000.0}
KEPT_BEFORE_THE_KILL = 50


def describe_judge(server: FaultTeacher, **changes: Any) -> dict[str, Any]:
    openai = {"baseURL": server.base_url, "model": "judge-9b", "prices": PRICES}
    return {"openai": openai, **changes}


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def count_answers(cache: Path) -> int:
    """Answers that the journal of this machine holds."""
    lines = [line for file in cache.glob("teacher/*/journal/*.jsonl") for line in read_lines(file)]
    return sum("answer" in line for line in lines)


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_judge_that_comes_and_goes(tmp_path: Path) -> None:
    """A judge that cannot be asked ends the job before it trains; one that is lost after the
    training costs neither the adapter nor an answer; kill -9 in the middle repeats no answered
    request; and the same command brings each of these to its end."""
    cache = tmp_path / "cache"

    def refuse(call: Call) -> Reply:
        return Reply(status=404)

    def answer_once(call: Call) -> Reply:
        return judge_well(call) if not server.answered else refuse(call)

    def answer_some(call: Call) -> Reply:
        reply = judge_well(call)
        return reply if call.number < limit else Reply(reply.text, hold=True)

    with serve_script(refuse) as server:
        manifest = write_free_text_job(tmp_path, describe_judge(server))
        refused = run_loam("run", str(manifest), cache=cache)
        assert refused.returncode == 12
        assert server.base_url in refused.stderr
        assert "] baselines" not in refused.stderr
        assert "] train" not in refused.stderr

        server.script = answer_once
        lost = run_loam("run", str(manifest), cache=cache)
        assert lost.returncode == 12, lost.stderr
        assert "] evaluate" in lost.stderr
        assert find_run(tmp_path).joinpath("adapter/adapter_model.safetensors").exists()

        limit = server.num_requests + KEPT_BEFORE_THE_KILL
        server.script = answer_some
        with start_loam("run", str(manifest), cache=cache) as process:
            # The first one was answered in the start before.
            num_kept = KEPT_BEFORE_THE_KILL + 1
            wait_until(lambda: count_answers(cache) >= num_kept, "answers in the journal")
            kill(process)

        server.script = judge_well
        done = run_loam("run", str(manifest), "--json", cache=cache)
        assert done.returncode == 0, done.stderr
        assert server.num_repeated == 0
        num_answered = len(server.answered)
    assert_finished(tmp_path, json.loads(done.stdout)["run"], num_answered)


def assert_finished(folder: Path, told: dict[str, Any], num_answered: int) -> None:
    """What a judge leaves: its verdict everywhere where the run's own is, and every row of it."""
    run = find_run(folder)
    manifest = verify_manifest(run)
    judged = manifest["results"]["judge"]
    assert judged["trust"]["num_right"] == judged["trust"]["num_rows"] == 20
    rows = read_lines(run / "evaluation/judge.jsonl")
    assert len(rows) == judged["num_rows"] == sum(judged["counts"].values()) == NUM_TEST_ROWS
    asked = [row for row in rows if row["verdicts"]]
    assert num_answered == NUM_TRIAL_QUESTIONS + 2 * len(asked)
    assert len(read_lines(run / "evaluation/judge_trust.jsonl")) == 20
    answers = {
        name: {row["id"]: row["answer"] for row in read_lines(run / f"evaluation/{name}.jsonl")}
        for name in ("tuned", "zeroShot")
    }
    for row in rows:
        tuned, other = (answers[name][row["id"]] for name in row["compared"])
        is_longer = (len(tuned) > len(other)) - (len(tuned) < len(other))
        assert row["outcome"] == {1: "win", 0: "tie", -1: "loss"}[is_longer]
        assert row["isConsistent"]
    # The server counts 40 tokens of a prompt and 20 of an answer; what was open at the kill, and
    # what was refused without work, may be charged beside the answers.
    usage = judged["usage"]
    assert usage["spent_requests"] >= num_answered
    assert usage["spent_cost"] >= num_answered * (40 * 1_000 + 20 * 10_000) / 10**6
    assert told["judge"]["text"] == judged["text"]
    assert told["verdict"]["text"] != judged["text"]
    page = (run / "report.html").read_text("utf-8")
    assert "Judge of answers" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "requests to the judge of answers" in page
    card = (run / "adapter/README.md").read_text("utf-8")
    assert "The judge judge\\-9b" in card or "The judge judge-9b" in card
