"""A judge of labels that the job names: another endpoint, one journal and one budget."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.test_label_consistency import (
    answer_with_errors,
    count_wrong,
    is_judgement,
    tell_class,
)
from tests.integration.test_teacher_pipeline import make_train
from tests.tools.fault_teacher import Call, FaultTeacher, Reply, serve_script

from loam_api.finetunejob import DataSource, DataSpec, Synthesis
from loam_runtime.data.examples import to_dataset
from loam_runtime.data.prompt import build_contract
from loam_runtime.errors import BudgetError, InputError, TeacherError
from loam_runtime.observability.monitor import NullMonitor
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.pipeline import SyntheticPipeline
from loam_runtime.synthesis.stage import SynthesisResult, synthesize

LABELS = ("billing", "delivery")
PRICES = {"teacher": (1_000.0, 10_000.0), "judge": (50_000.0, 100_000.0)}


class Counts(NullMonitor):
    """What the metrics would say of requests."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()

    def count(self, metric: str, /, n: float = 1, **labels: str) -> None:
        if metric == "teacher_requests":
            self.requests[labels["respondent"], labels["outcome"]] += int(n)


def guess(call: Call) -> Reply:
    """Writes rows of which some are of the other class, and cannot tell the classes itself."""
    if is_judgement(call.question):
        return Reply(json.dumps({"label": LABELS[0]}))
    return answer_with_errors(call)


@contextmanager
def serve_both(teacher=guess, judge=answer_with_errors) -> Iterator[dict[str, FaultTeacher]]:
    with serve_script(teacher) as first, serve_script(judge) as second:
        yield {"teacher": first, "judge": second}


def run_stage(
    servers: dict[str, FaultTeacher], folder: Path, monitor: NullMonitor | None = None, **changes
) -> SynthesisResult:
    data = DataSpec(
        seeds=DataSource(uri="file://seeds.jsonl"), task="classification", description="Complaints"
    )
    openai = {
        who: {
            "baseURL": server.base_url,
            "model": f"{who}-9b",
            "prices": dict(zip(("prompt", "completion"), PRICES[who], strict=True)),
        }
        for who, server in servers.items()
    }
    spec = {
        "targetCount": 20,
        "teacher": {"kind": "openai", "openai": openai["teacher"]},
        "judge": {"openai": openai["judge"]},
    }
    connected = {
        who: OpenAICompatibleTeacher(f"{who}-9b", server.base_url, "k", concurrency=4)
        for who, server in servers.items()
    }
    return synthesize(
        to_dataset(make_train()),
        build_contract(data, list(LABELS)),
        Synthesis.model_validate({**spec, **changes}),
        data=data,
        **connected,
        held_out={"test row 1": "a held out complaint about the weather in May"},
        seed=7,
        journal_dir=folder,
        monitor=monitor,
    )


def count_judgements(server: FaultTeacher) -> int:
    return sum(is_judgement(str(body["messages"])) for body in server.bodies)


def compute_cost(servers: dict[str, FaultTeacher]) -> float:
    """The servers count 40 tokens of a prompt and 20 of an answer."""
    return sum(
        (40 * prompt + 20 * completion) / 10**6 * servers[who].num_requests
        for who, (prompt, completion) in PRICES.items()
    )


def test_a_judge_steps_in_for_an_untrusted_teacher(tmp_path: Path) -> None:
    """Mistaken rows leave the set although the teacher cannot tell; both are paid from one budget,
    told apart in the metrics, and the second start asks neither of them anything."""
    counts = Counts()
    with serve_both() as servers:
        result = run_stage(servers, tmp_path, counts, onUntrustedFilter="judge")
        asked = {who: server.num_requests for who, server in servers.items()}
        again = run_stage(servers, tmp_path, onUntrustedFilter="judge")
        assert {who: server.num_requests for who, server in servers.items()} == asked
        assert count_judgements(servers["judge"]) == asked["judge"] > 40
        assert 0 < count_judgements(servers["teacher"]) <= 24  # about seeds, never about a row
        assert result.usage["spent_cost"] == pytest.approx(compute_cost(servers))
    assert count_wrong(result) == 0
    assert again.kept.to_dict() == result.kept.to_dict()
    assert result.usage["spent_requests"] == sum(asked.values())
    assert result.usage["judge_requests"] == asked["judge"]
    assert {who: counts.requests[who, "ok"] for who in asked} == asked
    told = result.report["filters"]["consistency"]
    assert (told["judge"], told["trusted"]) == ("judge-9b", True)
    assert told["instead_of"]["trusted"] is False
    assert "judge-9b, was trusted" in told["note"]


def test_a_judge_judges_every_row(tmp_path: Path) -> None:
    """Named without a word on when, it judges in the teacher's place: the teacher only writes."""
    with serve_both() as servers:
        assert count_wrong(run_stage(servers, tmp_path)) == 0
        assert count_judgements(servers["teacher"]) == 0


def test_a_trusted_teacher_needs_no_judge(tmp_path: Path) -> None:
    """The dear model is not asked where the one that wrote the rows can tell."""
    with serve_both(teacher=answer_with_errors) as servers:
        result = run_stage(servers, tmp_path, onUntrustedFilter="judge")
        assert servers["judge"].num_requests == 0
    assert count_wrong(result) == 0
    assert "judge_requests" in result.usage


@pytest.mark.parametrize("limit", [{"maxRequests": 35}, {"maxTokens": 3_800}, {"maxCost": 320}])
def test_one_budget_for_both(tmp_path: Path, limit: dict[str, int]) -> None:
    """What the judge costs counts like the teacher's: no limit is passed by both together, and rows
    that the judge was not paid for are counted."""
    with serve_both() as servers:
        try:
            result = run_stage(servers, tmp_path, budget=limit)
        except BudgetError:
            result = None
        num_requests = sum(server.num_requests for server in servers.values())
        assert servers["judge"].num_requests > 20
        assert num_requests <= limit.get("maxRequests", num_requests)
        assert num_requests * 60 <= limit.get("maxTokens", num_requests * 60)
        assert compute_cost(servers) <= limit.get("maxCost", 10**6)
    if result is not None:
        assert result.report["filters"]["consistency"]["unjudged"] > 0


def test_an_untrusted_judge_is_named(tmp_path: Path) -> None:
    """Whose fault it is that the job fails: another judge is to be found, not another teacher."""
    with serve_both(judge=guess) as servers, pytest.raises(InputError, match="by judge-9b"):
        run_stage(servers, tmp_path, onUntrustedFilter="fail")


def test_an_untrusted_judge_drops_nothing(tmp_path: Path) -> None:
    """As a fallback, too: a judge that is no better than the teacher does not decide."""
    with serve_both(judge=guess) as servers:
        result = run_stage(servers, tmp_path, onUntrustedFilter="judge")
    told = result.report["filters"]["consistency"]
    assert told["seen"] == told["passed"] > 0
    assert told["note"].count("not trusted") == 2


def test_a_judge_that_refuses_is_found_before_a_row(tmp_path: Path) -> None:
    """A wrong key of the judge's costs no row of the teacher's, and is told by its address."""

    def refuse(call: Call) -> Reply:
        return Reply("no", status=404)

    with serve_both(judge=refuse) as servers:
        with pytest.raises(TeacherError, match="judge-9b") as caught:
            run_stage(servers, tmp_path)
        assert servers["judge"].base_url in str(caught.value)
        assert servers["teacher"].num_requests == 0


def test_a_judge_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`judge_model` judges in `filter`, and what it cost joins the usage."""
    from datasets import Dataset

    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))
    seeds = [{"text": row.input, "label": row.target} for row in make_train()]
    with serve_both() as servers:
        connected = {
            who: OpenAICompatibleTeacher(who, server.base_url, "k", concurrency=4)
            for who, server in servers.items()
        }
        pipeline = SyntheticPipeline(
            connected["teacher"],
            quality_threshold=0.0,
            journal_dir=tmp_path / "journal",
            judge_model=connected["judge"],
            on_untrusted_filter="judge",
        )
        made = pipeline.generate(Dataset.from_list(seeds), 20, "Complaints")
        kept = pipeline.filter(made)
        assert servers["judge"].num_requests == kept.usage["judge_requests"] > 0
    assert all(tell_class(row.input) == row.target for row in kept)
    with pytest.raises(InputError, match="needs a judge_model"):
        SyntheticPipeline(connected["teacher"], on_untrusted_filter="judge")
