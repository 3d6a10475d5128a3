"""The stage that asks a judge of answers, over real HTTP, on answers that are there already."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.tools.batch_server import BatchServer, serve_batches
from tests.tools.fault_teacher import Call, FaultTeacher, Reply, serve_script
from tests.tools.free_text_job import find_place, is_trial, judge_by_place, judge_well

from loam_api.validation import validate_manifest
from loam_runtime.data.examples import Example, to_dataset
from loam_runtime.data.export import read_json_lines, write_json_lines
from loam_runtime.data.tables import write_table
from loam_runtime.errors import TeacherError
from loam_runtime.observability.monitor import NullMonitor
from loam_runtime.sources import Sources
from loam_runtime.stages import StageOutput
from loam_runtime.steps.context import JobContext
from loam_runtime.steps.judge import TRIALS_FILE, check_judge, choose_baseline, judge_answers
from loam_runtime.steps.predictions import VERDICTS_FILE

NUM_ROWS = 60
NUM_TRIAL_QUESTIONS = 40
PRICES = {"prompt": 1_000.0, "completion": 10_000.0}
# Far more than the judge is asked here.
SYNTHESIS_USAGE = {"spent_requests": 7_000, "spent_tokens": 700_000, "spent_cost": 1_500.0}


class Stage:
    """The stage of one job, as often as it is started.

    Every third fine-tuned answer is right, every third is wrong and longer than the baseline's,
    and every third equals it.
    """

    def __init__(self, folder: Path, server: FaultTeacher | BatchServer, **judge: Any) -> None:
        openai = {"baseURL": server.base_url, "model": "judge-9b", "prices": PRICES}
        remote = {"baseURL": "http://127.0.0.1:9/v1", "model": "t", "prices": PRICES}
        spec = {
            "model": {"uri": "file://model"},
            "data": {"seeds": {"uri": "file://seeds.jsonl"}, "task": "generation"},
            "synthesis": {"targetCount": 1, "teacher": {"kind": "openai", "openai": remote}},
            "evaluation": {"judge": {"openai": openai, **judge}},
            "output": {"uri": f"file://{folder}/output"},
        }
        head = {"apiVersion": "loam.dev/v1alpha1", "kind": "FineTuneJob"}
        job = validate_manifest({**head, "metadata": {"name": "judged"}, "spec": spec})
        sources = Sources(Path(), {}, {})
        self.context = JobContext(job, folder, sources, None, "0123456789abcdef", folder)
        self.split = folder / "split"
        self._folder, self._num_starts = folder, 0
        rows = [Example(f"r{n}", f"where is {n}", find_place(n)) for n in range(NUM_ROWS)]
        (self.split / "data").mkdir(parents=True)
        for side in ("train", "test"):
            write_table(to_dataset(rows), self.split / "data" / f"{side}.parquet")
        kinds = [lambda row: row.target, lambda row: "nowhere at all", lambda row: "no"]
        self.answers = {
            "tuned": {row.id: kinds[n % 3](row) for n, row in enumerate(rows)},
            "zeroShot": {row.id: "no" for row in rows},
        }
        (folder / "evaluation").mkdir()
        for name, answers in self.answers.items():
            records = [{"id": row.id, "answer": answers[row.id]} for row in rows]
            write_json_lines(records, folder / "evaluation" / f"{name}.jsonl")

    def start(self) -> dict[str, Any]:
        """Do the stage once more, in a folder of its own."""
        self._num_starts += 1
        self.out = self._folder / f"judge-{self._num_starts}"
        self.out.mkdir()

        def leave(folder: Path, **result: Any) -> StageOutput:
            return StageOutput(result, {}, 0.0, lambda: folder)

        metrics = {"rougeL": {"value": 0.1}}
        models = [{"name": "zeroShot", "task": "generation", "metrics": metrics}]
        outputs = {
            "split": leave(self.split),
            "synthesize": leave(self._folder, usage=SYNTHESIS_USAGE),
            "baselines": leave(self._folder, models=models),
            "evaluate": leave(self._folder),
        }
        return judge_answers(self.context, outputs, self.out, NullMonitor())

    def check(self) -> None:
        """Ask before the training."""
        check_judge(self.context, self.split)

    def read(self, name: str) -> list[dict[str, Any]]:
        return read_json_lines(self.out / name)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))


def test_each_row_is_judged_in_both_orders_and_once(tmp_path: Path) -> None:
    """The counts are those of the answers; two equal answers cost nothing; and a second start, or
    the check before the training, pays for nothing again."""
    with serve_script(judge_well) as server:
        stage = Stage(tmp_path, server)
        stage.check()
        assert server.num_requests == 1
        judged = stage.start()
        num_asked = server.num_requests
        again = stage.start()
        assert server.num_requests == num_asked == NUM_TRIAL_QUESTIONS + 2 * 40
        assert server.num_repeated == 0
    assert judged["counts"] == {"win": 40, "tie": 20, "loss": 0, "unreadable": 0, "unanswered": 0}
    assert (judged["num_inconsistent"], judged["prefers_tuned"]) == (0, True)
    assert (judged["judge"], judged["baseline"]) == ("judge-9b", "zeroShot")
    assert judged["usage"]["spent_requests"] == num_asked
    assert judged["usage"]["spent_cost"] == pytest.approx(num_asked * 0.24)
    assert {**again, "usage": judged["usage"]} == judged
    equal = [row for row in stage.read(VERDICTS_FILE) if not row["verdicts"]]
    assert len(equal) == 20
    assert {row["reasons"][0] for row in equal} == {"the answers are equal"}


def test_rows_are_a_sample_of_the_job(tmp_path: Path) -> None:
    """`maxRows` is what the bill goes by, and the first rows of a file are not its rows."""
    with serve_script(judge_well) as server:
        stage = Stage(tmp_path, server, maxRows=12)
        assert stage.start()["num_rows"] == 12
        rows = {row["id"] for row in stage.read(VERDICTS_FILE)}
        assert server.num_requests <= NUM_TRIAL_QUESTIONS + 24
    assert len(rows) == 12
    assert rows != {f"r{number}" for number in range(12)}


def test_a_judge_that_is_not_trusted_is_asked_no_more(tmp_path: Path) -> None:
    """One that always prefers the first answer would be paid for two questions a row that decide
    nothing."""
    with serve_script(judge_by_place) as server:
        stage = Stage(tmp_path, server)
        judged = stage.start()
        assert server.num_requests == NUM_TRIAL_QUESTIONS
        assert all(is_trial(str(body["messages"][0]["content"])) for body in server.bodies)
    assert "is not trusted and decides nothing" in judged["text"]
    assert judged["trust"]["num_right"] == 0
    assert (judged["num_rows"], judged["win_rate"]) == (0, None)
    assert stage.read(VERDICTS_FILE) == []
    assert len(stage.read(TRIALS_FILE)) == 20


def write_other(text: str) -> Callable[[Call], Reply]:
    """Is measured well, and then writes this."""

    def answer(call: Call) -> Reply:
        return judge_well(call) if is_trial(call.question) else Reply(text)

    return answer


@pytest.mark.parametrize(
    ("text", "outcome", "num_inconsistent"),
    [
        (json.dumps([{"reason": "r", "label": "A"}]), "tie", 40),
        (json.dumps([{"reason": "r", "label": "tie"}]), "tie", 0),
        ("Both are fine.", "unreadable", 0),
    ],
)
def test_what_the_orders_do_not_agree_on_is_no_win(
    tmp_path: Path, text: str, outcome: str, num_inconsistent: int
) -> None:
    """A favour for a place, and words that are no verdict, must not become wins of either model."""
    with serve_script(write_other(text)) as server:
        judged = Stage(tmp_path, server).start()
    assert judged["counts"]["win"] == judged["counts"]["loss"] == 0
    assert judged["counts"][outcome] == (60 if outcome == "tie" else 40)
    assert judged["num_inconsistent"] == num_inconsistent
    assert judged["prefers_tuned"] is None


@pytest.mark.parametrize(
    "limit", [{"maxRequests": 60}, {"maxTokens": 60 * 60 + 3_000}, {"maxCost": 25.0}]
)
def test_a_spent_budget_leaves_what_was_judged(tmp_path: Path, limit: dict[str, float]) -> None:
    """A limit is never passed, a part is told as one, and it is not asked for again."""
    with serve_script(judge_well) as server:
        judged = (stage := Stage(tmp_path, server, budget=limit)).start()
        num_asked = server.num_requests
        assert NUM_TRIAL_QUESTIONS < num_asked < NUM_TRIAL_QUESTIONS + 80
        assert num_asked <= limit.get("maxRequests", num_asked)
        assert num_asked * 60 <= limit.get("maxTokens", num_asked * 60)
        assert num_asked * 0.24 <= limit.get("maxCost", num_asked)
        stage.start()
        assert server.num_requests == num_asked
    assert judged["is_budget_spent"]
    assert 0 < judged["counts"]["win"] < 40
    assert judged["counts"]["unanswered"] > 0
    assert "budget was spent" in judged["text"]


def test_a_lost_judge_ends_the_stage_with_what_the_run_has_cost(tmp_path: Path) -> None:
    """The operator shows the spending of a step that failed: the teacher's with the judge's."""

    def answer(call: Call) -> Reply:
        return judge_well(call) if is_trial(call.question) else Reply(status=404)

    with serve_script(answer) as server:
        stage = Stage(tmp_path, server)
        with pytest.raises(TeacherError, match="judge-9b") as caught:
            stage.start()
        assert caught.value.spent_requests >= NUM_TRIAL_QUESTIONS + 7_000
        assert caught.value.spent_cost >= NUM_TRIAL_QUESTIONS * 0.24 + 1_500
        server.script = judge_well
        assert stage.start()["counts"]["win"] == 40
        assert server.num_repeated == 0


def test_a_judge_may_work_in_batches(tmp_path: Path) -> None:
    """At half the price, where the provider takes its time: one batch measures it and one judges,
    what expired is asked again, and a second start sends nothing."""
    with serve_batches() as server:
        server.write = lambda question: judge_well(Call(question, 0, 0, {})).text
        server.answered_before_expiry = NUM_TRIAL_QUESTIONS // 2
        openai = {"baseURL": server.base_url, "model": "judge-9b", "mode": "batch"}
        stage = Stage(tmp_path, server, openai={**openai, "prices": PRICES})
        judged = stage.start()
        assert len(server.batches) == 3
        again = stage.start()
        assert len(server.batches) == 3
    num_asked = NUM_TRIAL_QUESTIONS + 2 * 40
    assert server.num_answered == judged["usage"]["spent_requests"] == num_asked
    assert judged["counts"] == {"win": 40, "tie": 20, "loss": 0, "unreadable": 0, "unanswered": 0}
    assert judged["usage"]["spent_cost"] == pytest.approx(num_asked * 0.24)
    assert {**again, "usage": judged["usage"]} == judged


def test_without_rows_nobody_is_asked(tmp_path: Path) -> None:
    """A job without a test set has trained all the same."""
    with serve_script(judge_well) as server:
        stage = Stage(tmp_path, server)
        (stage.split / "data" / "test.parquet").unlink()
        stage.check()
        assert "there is no test set" in stage.start()["text"]
        assert server.num_requests == 0


def test_the_majority_class_writes_no_answers() -> None:
    """A judge can only compare answers; the best of those that were written counts."""
    scores = {"majority": 0.9, "zeroShot": 0.2, "inContext": 0.3}
    models = [
        {"name": name, "task": "extraction", "metrics": {"tokenF1": {"value": value}}}
        for name, value in scores.items()
    ]
    assert choose_baseline(models) == "inContext"
    assert choose_baseline(models[:1]) == ""
