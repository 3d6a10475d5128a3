"""What a job pays its teacher: the server's count, the report and the metric are one figure."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.tools.fault_teacher import Call, Reply, serve_script
from tests.tools.processes import find_free_port
from tests.tools.tiny_job import (
    END_SECONDS,
    find_run,
    start_loam,
    write_examples,
    write_job,
)
from tests.tools.waiting import wait_until

from loam_runtime.observability.monitor import NullMonitor
from loam_runtime.synthesis.budget import BudgetLedger, PriceList
from loam_runtime.synthesis.client import TeacherClient
from loam_runtime.synthesis.exchange import TeacherRequest
from loam_runtime.synthesis.journal import Journal
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.pacing import RetryPolicy

pytestmark = pytest.mark.usefixtures("without_ray")

# The scripted server counts 40 tokens of prompt and 20 of answer.
PRICES = {"prompt": 1000, "completion": 3000}
COST_OF_AN_ANSWER = 0.1


class Money(NullMonitor):
    """What the metric would say."""

    def __init__(self) -> None:
        self.paid = 0.0

    def count(self, metric: str, /, n: float = 1, **labels: str) -> None:
        self.paid += n if metric == "teacher_cost" else 0


def write_when_asked_twice(call: Call) -> Reply:
    """Refuses the first request for load, which nobody pays for."""
    return Reply(status=429) if call.number == 0 else write_examples(call)


def scrape(port: int) -> dict[str, float]:
    """Every series of the exporter, once it says that the rows are written; else nothing."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
    except OSError:  # it is not up yet
        return {}
    series = {
        ",".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }
    return series if series.get("loam_stage_state,synthesize,done") else {}


def ask(base_url: str, folder: Path) -> tuple[float, float]:
    """One start of a run: what the metric says, and what the budget counts of it."""

    async def work() -> tuple[float, float]:
        teacher = OpenAICompatibleTeacher("m", base_url, "k", timeout_seconds=2.0)
        money = Money()
        try:
            async with Journal(folder, "run") as journal:
                budget = BudgetLedger(spent=journal.spent)
                client = TeacherClient(
                    teacher,
                    journal,
                    budget,
                    prices=PriceList(1000.0, 3000.0),
                    policy=RetryPolicy(base_delay_seconds=0.01),
                    monitor=money,
                )
                await client.ask_many(
                    [TeacherRequest((("user", f"question {i}"),), max_tokens=50) for i in range(4)]
                )
                return money.paid, (budget.spent - journal.spent).money
        finally:
            await teacher.close()

    return asyncio.run(work())


def test_failures_that_may_be_billed_are_in_the_metric(tmp_path: Path) -> None:
    """A time-out or an HTTP 500 is charged its worst case: an alert that counts answers alone
    stays silent while an endpoint that fails spends the budget."""

    def script(call: Call) -> Reply:
        if call.attempt == 0 and call.question in ("question 0", "question 1"):
            return Reply(status=500) if call.question == "question 0" else Reply(hold=True)
        return Reply(text="fine")

    with serve_script(script) as server:
        paid, spent = ask(server.base_url, tmp_path)
        assert paid == pytest.approx(spent)
        assert paid > 5.9 * COST_OF_AN_ANSWER
        assert ask(server.base_url, tmp_path) == (0, 0)


def test_the_metric_is_what_was_paid(tmp_path: Path) -> None:
    """The alert on spending goes by this counter, and its reader sees the report next: a counter
    that misses answers, or counts refused ones, is found out by the bill."""
    port = find_free_port()
    with serve_script(write_when_asked_twice) as teacher:
        openai = {"baseURL": teacher.base_url, "model": "scripted", "prices": PRICES}
        synthesis = {"targetCount": 10, "teacher": {"kind": "openai", "openai": openai}}
        manifest = write_job(tmp_path, synthesis=synthesis, evaluation={"baselines": ["majority"]})
        command = ["run", str(manifest), "--metrics-port", str(port)]
        with start_loam(*command, cache=tmp_path / "cache") as process:
            seen = wait_until(lambda: scrape(port), "the rows to be written", END_SECONDS)
            _, errors = process.communicate(timeout=END_SECONDS)
        assert process.returncode == 0, errors
        num_answers = teacher.num_requests - 1
    paid = num_answers * COST_OF_AN_ANSWER
    assert seen["loam_teacher_cost_total,teacher"] == pytest.approx(paid)
    assert seen["loam_teacher_requests_total,ok,teacher"] == num_answers
    report = json.loads((find_run(tmp_path) / "report.json").read_text())
    facts = {fact["name"]: fact["value"] for fact in report["usage"]}
    assert facts["teacher cost"] == f"{paid:.4f}"
