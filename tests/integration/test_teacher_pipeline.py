"""The synthesis pipeline against an OpenAI-compatible HTTP server."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.tools.fault_teacher import Call, FaultTeacher, Reply, serve_script

from loam_api.finetunejob import DataSource, DataSpec, Synthesis
from loam_runtime.data.examples import Example, to_dataset
from loam_runtime.data.export import read_json_lines, write_json_lines
from loam_runtime.data.prompt import build_contract
from loam_runtime.errors import BudgetError, InputError, TeacherError
from loam_runtime.storage.base import ObjectStore
from loam_runtime.storage.registry import open_store
from loam_runtime.synthesis.drawing import Drawing
from loam_runtime.synthesis.filters.base import FilterChain, Verdict
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.stage import SynthesisResult, synthesize
from loam_runtime.synthesis.strategies.base import SamplingSettings, TaskBrief

ROOT = Path(__file__).parents[2]
WORDS = ["revenue", "margin", "cash", "growth", "income", "guidance", "cost", "segment", "debt"]


def write_rows(call: Call) -> Reply:
    """A good teacher: as many new rows as the request asks for, thinking aloud and fenced."""
    rng = random.Random(call.question)
    if "Write one that is wrong" in call.question:
        return Reply(f"<answer>{rng.randrange(10**6)} million</answer>")
    count = int(re.search(r"Write (\d+) new", call.question)[1])
    rows = [
        {
            "input": f"{' '.join(rng.choices(WORDS, k=9))} {rng.randrange(10**6)}",
            "output": f"{rng.randrange(10**6)} million",
        }
        for _ in range(count)
    ]
    return Reply(text=f"<think>So be it.</think>\n```json\n{json.dumps(rows)}\n```")


def write_local_dataset(folder: Path, count: int = 120) -> None:
    rng = random.Random(0)
    rows = [
        {"question": f"{' '.join(rng.choices(WORDS, k=9))} {i}?", "answer": f"{i} million"}
        for i in range(count)
    ]
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_snippet_of_the_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The paper's snippet runs as it stands but for its import: that is the public API."""
    write_local_dataset(tmp_path / "domain_specific")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with serve_script(write_rows) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)

        from datasets import load_dataset

        # Synthetic data generation pipeline
        from loam_runtime.synthesis.pipeline import SyntheticPipeline

        pipeline = SyntheticPipeline(
            teacher_model="gpt-4-turbo",
            quality_threshold=0.85,
            diversity_weight=0.3,
        )
        # Generate synthetic examples from seed data
        seed_data = load_dataset("domain_specific", split="train[:100]")
        synthetic_data = pipeline.generate(
            seed_examples=seed_data,
            target_count=1000,  # 10x augmentation
            task_description="Extract key financial metrics from quarterly reports",
            domain_constraints=["Use realistic company names", "Vary report formats"],
        )
        # Quality filtering retains ~60-70% of generated examples
        filtered_data = pipeline.filter(synthetic_data)
        print(f"Generated: {len(synthetic_data)}, Retained: {len(filtered_data)}")

    assert capsys.readouterr().out.startswith("Generated: 1000, Retained: ")
    assert 0 < len(filtered_data) <= 1000
    assert len({(row.input, row.target) for row in filtered_data}) == len(filtered_data)
    assert 0 < filtered_data.report["measures"]["dispersion"]["synthetic"] < 1
    asked = server.bodies[0]["messages"][-1]["content"]
    assert "Extract key financial metrics" in asked
    assert "- Vary report formats" in asked


def make_train() -> list[Example]:
    return [
        Example(f"{label}{i}", f"{text} number {i} of the week", label)
        for label, text in (("billing", "invoice"), ("delivery", "parcel"))
        for i in range(6)
    ]


def run_stage(
    server: FaultTeacher, folder: Path, journal_store: ObjectStore | None = None, **changes
) -> SynthesisResult:
    train = make_train()
    data = DataSpec(
        seeds=DataSource(uri="file://seeds.jsonl"), task="classification", description="Complaints"
    )
    # What is asked about rows has tests of its own: here draws are counted.
    filters = {"consistency": {"enabled": False}}
    spec = Synthesis(**{"target_count": 20, "filters": filters, **changes})
    return synthesize(
        to_dataset(train),
        build_contract(data, ["billing", "delivery"]),
        spec,
        data=data,
        teacher=OpenAICompatibleTeacher("m", server.base_url, "k", concurrency=4),
        held_out={"test row 1": "a held out complaint about the weather in May"},
        seed=7,
        journal_dir=folder,
        journal_store=journal_store,
    )


def write_complaints(call: Call) -> Reply:
    """Rows of which some are bad: a copy of a seed, a test input, an empty one."""
    rng = random.Random(call.question)
    count = int(re.search(r"Write (\d+) new", call.question)[1])
    label = re.search(r'of the class "(\w+)"', call.question)[1]
    rows = [
        {"input": f"{label} {' '.join(rng.choices(WORDS, k=5))} {rng.randrange(10**6)}"}
        for _ in range(count)
    ]
    bad = ["invoice number 1 of the week", "A HELD OUT complaint about the weather in May", ""]
    rows[0] = {"input": bad[call.number % 3]}
    return Reply(text=json.dumps(rows))


def test_stage_tops_up(tmp_path: Path) -> None:
    """The number of rows *kept* is what was asked for, by class; every other row is told
    with its reason, and no copy of a test input comes through."""
    with serve_script(write_complaints) as server:
        result = run_stage(server, tmp_path)
    assert len(result.kept) == 20
    assert sorted(result.kept["target"]) == ["billing"] * 10 + ["delivery"] * 10
    assert set(result.kept["origin"]) == {"synthetic"}
    assert not any("weather" in text for text in result.kept["input"])
    reasons = {(item["filter"], item["reason"]) for item in result.rejected}
    assert ("malformed", "empty input") in reasons
    assert any(name == "exactDuplicates" for name, _ in reasons)
    report = result.report
    assert report["missing"] == 0
    assert len(result.kept) + len(result.rejected) == report["rows"] + report["malformed"]
    assert list(report["filters"])[:3] == ["exactDuplicates", "length", "nearDuplicates"]
    assert report["filters"]["exactDuplicates"]["retention_by_class"].keys() == {
        "billing",
        "delivery",
    }


def test_same_journal_same_rows(tmp_path: Path) -> None:
    """A second start reads the journal, asks nothing, and keeps the same rows in the same
    order."""
    with serve_script(write_complaints) as server:
        first = run_stage(server, tmp_path)
        num_requests = server.num_requests
        second = run_stage(server, tmp_path)
    assert server.num_requests == num_requests
    assert second.kept.to_dict() == first.kept.to_dict()
    assert second.rejected == first.rejected
    assert second.usage["requests"] == 0


def test_nonsense(tmp_path: Path) -> None:
    """A teacher that writes no rows is found out after a few requests, with what it wrote wrong;
    an empty data set is a failure, never a success."""
    with serve_script(lambda call: Reply(text="I'd love to help! ...")) as server:
        with pytest.raises(TeacherError, match="no JSON object"):
            run_stage(server, tmp_path, target_count=5000)
        assert server.num_requests <= 40


def write_for_one_class(call: Call) -> Reply:
    """Of "delivery" nothing but a copy of a seed, over and over."""
    if "billing" in re.search(r'of the class "(\w+)"', call.question)[1]:
        return write_complaints(call)
    return Reply(text=json.dumps([{"input": "parcel number 1 of the week"}] * 5))


@pytest.mark.parametrize(("budget", "most_requests"), [(0, 200), (150, 60)])
def test_unbalanced_is_told_early(tmp_path: Path, budget: int, most_requests: int) -> None:
    """A class of which hardly a row passes ends the stage as soon as that shows, naming the class
    and what is wrong with its rows: not after thousands of requests, and never as a success."""
    with serve_script(write_for_one_class) as server:
        with pytest.raises(TeacherError, match='unbalanced: "delivery" has 0 of 1000') as caught:
            run_stage(server, tmp_path, target_count=2000, budget={"max_requests": budget})
        assert server.num_requests <= most_requests
    assert "equal to a seed" in str(caught.value)


def test_budget_in_the_manifest(tmp_path: Path) -> None:
    """The job's budget ends the stage: with an error where too few rows are there to train on,
    else with the rows that were paid for. Raised, the same run goes on and repeats nothing."""
    with serve_script(write_complaints) as server:
        with pytest.raises(BudgetError, match="1 of 1 requests"):
            run_stage(server, tmp_path, budget={"max_requests": 1})
        partial = run_stage(server, tmp_path, budget={"max_requests": 3})
        assert 10 <= len(partial.kept) < 20
        assert "3 of 3 requests" in partial.report["stopped"]
        assert len(run_stage(server, tmp_path, budget={"max_requests": 60}).kept) == 20
    assert server.num_repeated == 0


def test_another_pace_is_no_new_budget(tmp_path: Path) -> None:
    """A job whose budget is spent stays stopped when its concurrency, time-out or key is changed:
    a hard stop that begins anew is none."""
    openai = {"base_url": "http://h/v1", "model": "m"}
    changed = {**openai, "concurrency": 2, "timeout_seconds": 7}
    with serve_script(write_complaints) as server:
        for remote in (openai, changed):
            teacher = {"kind": "openai", "openai": remote}
            with pytest.raises(BudgetError, match="1 of 1 requests"):
                run_stage(server, tmp_path, budget={"max_requests": 1}, teacher=teacher)
    assert server.num_requests == 1


def test_every_way_to_generate_has_its_own_budget(tmp_path: Path) -> None:
    """`max_requests` is of one `generate`: what another temperature or filter has spent is not
    taken from it."""
    from loam_runtime.synthesis.pipeline import SyntheticPipeline

    seeds = to_dataset(make_train())
    with serve_script(write_complaints) as server:
        teacher = OpenAICompatibleTeacher("m", server.base_url, "k", concurrency=4)
        for changes in (
            {},
            {"sampling": SamplingSettings(temperature=0.5)},
            {"filters": {"length": {"enabled": False}}},
        ):
            pipeline = SyntheticPipeline(teacher, max_requests=4, journal_dir=tmp_path, **changes)
            assert len(pipeline.generate(seeds, 10)) == 10


def write_broken_characters(call: Call) -> Reply:
    """Half a surrogate pair, as JSON spells it, in every other answer; and line ends of Unicode."""
    reply = json.loads(write_complaints(call).text)
    if call.number % 2:
        reply[-1]["input"] += " HALF"
        return Reply(text=json.dumps(reply).replace("HALF", r"\ud83d"))
    reply[-1]["input"] += " \u2028 and \x85 so on"
    return Reply(text=json.dumps(reply))


def test_characters_that_no_file_takes(tmp_path: Path) -> None:
    """What is no Unicode text is a malformed row like any other. The answer is in the journal: a
    run that it ends would be ended by it again and again."""
    with serve_script(write_broken_characters) as server:
        first = run_stage(server, tmp_path)
        second = run_stage(server, tmp_path)
    assert len(first.kept) == 20
    assert first.kept.to_dict() == second.kept.to_dict()
    reasons = {item["reason"] for item in first.rejected if item["filter"] == "malformed"}
    assert "half a surrogate pair, which is no character" in reasons
    write_json_lines(first.rejected, tmp_path / "rejected.jsonl")
    assert read_json_lines(tmp_path / "rejected.jsonl") == first.rejected


class StoreWatcher:
    """A filter that notes how many answers object storage has when rows come to it."""

    name = "watcher"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.counts: list[tuple[int, int]] = []

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        lines = [
            json.loads(line) for path in self._folder.rglob("*.jsonl") for line in path.open("rb")
        ]
        self.counts.append((sum("answer" in line for line in lines), len(rows)))
        return [Verdict() for _ in rows]

    def describe(self) -> dict[str, object]:
        return {}


def test_answers_are_safe_before_they_are_worked_on(tmp_path: Path) -> None:
    """Filters keep the event loop busy, for minutes at times: what was answered before lies in
    object storage by then, or a lost disk would cost more than the last seconds."""
    watcher = StoreWatcher(tmp_path / "store")
    brief = TaskBrief(tuple(make_train()), is_classification=True)
    with serve_script(write_complaints) as server:
        drawing = Drawing(
            OpenAICompatibleTeacher("m", server.base_url, "k", concurrency=4),
            "seeded",
            SamplingSettings(),
            tmp_path / "journal",
            run_id="run",
            journal_store=open_store(f"file://{tmp_path / 'store'}"),
        )
        chain = FilterChain([watcher], is_classification=True)
        drawing.draw(brief, chain, {"billing": 60, "delivery": 60})
    assert len(watcher.counts) > 1
    num_rows = 0
    for num_answers, num_new in watcher.counts:
        num_rows += num_new
        assert 5 * num_answers >= num_rows


def test_budget_in_money(tmp_path: Path) -> None:
    """Prices turn tokens into money, the budget in money ends the stage, and what was spent is
    in the usage: 40 and 20 tokens an answer at 1,000 and 10,000 a million are 0.24."""
    remote = {"base_url": "http://h/v1", "model": "m"}
    remote["prices"] = {"prompt": 1000.0, "completion": 10_000.0}
    teacher = {"kind": "openai", "openai": remote}
    with serve_script(write_complaints) as server:
        result = run_stage(server, tmp_path, budget={"max_cost": 9.0}, teacher=teacher)
        assert result.usage["spent_cost"] == pytest.approx(0.24 * server.num_requests)
        assert result.usage["spent_cost"] <= 9.0
    with serve_script(write_complaints) as server:
        budget = {"max_cost": 9.0}
        with pytest.raises(BudgetError, match="in money") as caught:
            run_stage(server, tmp_path / "a", target_count=500, budget=budget, teacher=teacher)
        assert server.num_requests > 0
        # What was under way at the end is charged in full: the endpoint may bill it.
        assert 0.24 * server.num_requests <= caught.value.spent_cost <= 9.0
        assert caught.value.spent_requests >= server.num_requests
        assert caught.value.spent_tokens >= 60 * server.num_requests
    with serve_script(write_complaints) as server, pytest.raises(BudgetError, match="in money"):
        # Less than one answer's worst case: nothing may be sent.
        run_stage(server, tmp_path / "b", budget={"max_cost": 0.5}, teacher=teacher)
    assert server.num_requests == 0


def test_two_jobs_at_once_pay_once(tmp_path: Path) -> None:
    """Two jobs of one namespace that ask the same, at the same time and on different disks: the
    second takes the answers of the first."""
    store = open_store(f"file://{tmp_path / 'store'}")

    def run(name: str, quality_threshold: float) -> SynthesisResult:
        spec = {"quality_threshold": quality_threshold, "journal_store": store}
        return run_stage(server, tmp_path / name, **spec)

    with serve_script(write_complaints) as server, ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, ("a", "b"), (0.0, 0.1))
    assert len(first.kept) == len(second.kept) == 20
    assert server.num_repeated == 0
    assert 0 in (first.usage["requests"], second.usage["requests"])


def test_in_context_needs_classes(tmp_path: Path) -> None:
    """An unknown pairing of strategy and seeds is refused before anything is asked."""
    from datasets import Dataset

    from loam_runtime.synthesis.pipeline import SyntheticPipeline

    with serve_script(write_rows) as server:
        teacher = OpenAICompatibleTeacher("m", server.base_url, "k")
        pipeline = SyntheticPipeline(teacher, strategy="inContext", journal_dir=tmp_path)
        rows = Dataset.from_list([{"prompt": "one", "completion": "two"}])
        with pytest.raises(InputError, match="inContext"):
            pipeline.generate(rows, 5)
        with pytest.raises(InputError, match="no rows"):
            pipeline.generate(rows.select([]), 5)
    assert server.num_requests == 0


PROGRAM = """
import json, sys
from pathlib import Path
from tests.integration.test_teacher_pipeline import generate_sums

print(json.dumps(generate_sums(sys.argv[1], Path(sys.argv[2]))))
"""


def generate_sums(url: str, folder: Path) -> list[list[str]]:
    """What is killed: 400 rows of a task with inputs and outputs."""
    from datasets import Dataset

    from loam_runtime.synthesis.pipeline import SyntheticPipeline

    rows = [{"question": f"sum of {i} and {i}?", "answer": str(2 * i)} for i in range(20)]
    teacher = OpenAICompatibleTeacher("m", url, "k", concurrency=8)
    pipeline = SyntheticPipeline(teacher, journal_dir=folder)
    made = pipeline.generate(Dataset.from_list(rows), 400)
    return [[row.input, row.target] for row in made]


def start_program(server: FaultTeacher, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, server.base_url, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(program: subprocess.Popen) -> list[list[str]]:
    out, _ = program.communicate(timeout=600)
    assert program.returncode == 0
    return json.loads(out)


def test_kill_and_start_again(tmp_path: Path) -> None:
    """kill -9 in the middle, the same command again: no answered request is repeated, and the
    rows are those of a run that was never killed."""
    with serve_script(write_rows) as server:
        undisturbed = generate_sums(server.base_url, tmp_path / "undisturbed")
        num_needed = server.num_requests
        first_key = json.dumps(server.bodies[0], sort_keys=True)
    assert len(undisturbed) == 400

    half = num_needed // 2

    def hold_second_half(call: Call) -> Reply:
        reply = write_rows(call)
        return Reply(text=reply.text, hold=call.number >= half)

    with serve_script(hold_second_half) as server:
        program = start_program(server, tmp_path / "killed")
        # Everything before the held requests is answered and durable once these lines are.
        _wait_for_answers(program, tmp_path / "killed", half)
        program.send_signal(signal.SIGKILL)
        program.wait(30)
        answered_before = dict(server.answered)
        server.script = write_rows
        server.release.set()
        resumed = finish(start_program(server, tmp_path / "killed"))
        repeated = [key for key in answered_before if server.asked[key] > 1]

    assert len(answered_before) == half
    assert first_key in answered_before
    assert repeated == []
    assert resumed == undisturbed


def _wait_for_answers(program: subprocess.Popen, folder: Path, count: int) -> None:
    """Until the journal holds that many answers; the kill must come at a known point."""
    deadline = time.monotonic() + 120
    while True:
        text = "".join(path.read_text() for path in folder.glob("*.jsonl"))
        if text.count('{"answer"') >= count:
            return
        assert program.poll() is None, "the program ended before it could be killed"
        assert time.monotonic() < deadline, f"{text.count('answer')} of {count} answers came"
        time.sleep(0.02)  # polls another process's file; nothing can notify this one
