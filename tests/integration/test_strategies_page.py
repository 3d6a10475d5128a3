"""docs/strategies: every example runs as it stands, and its rows are what the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset
from tests.tools.any_teacher import write_any_rows
from tests.tools.fault_teacher import Call, Reply, serve_script

from loam_api.finetunejob import DataSpec, FineTuneJob, Synthesis
from loam_api.training_block import Training
from loam_runtime.data.loading import load_examples
from loam_runtime.synthesis.filters.preference import TIE
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.pipeline import SyntheticPipeline
from loam_runtime.synthesis.strategies.registry import STRATEGIES
from loam_runtime.synthesis_job import synthesize_job

FOLDER = Path(__file__).parents[2] / "docs" / "strategies"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
SECTIONS = {
    part.partition("\n")[0]: part
    for page in PAGES.values()
    for part in re.split(r"\n(?=##? )", page)
    if "```" in part
}
IMPORTS = "from datasets import Dataset\nfrom loam_runtime.synthesis.pipeline import *\n"
DEFAULT = 'pipeline = SyntheticPipeline("gpt-4.1-mini", quality_threshold=0.5)\n'


def read_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run_example(title: str) -> dict[str, Any]:
    """The names that a section's code leaves."""
    names: dict[str, Any] = {}
    code = "\n".join(read_blocks(SECTIONS[title], "python"))
    exec(compile(IMPORTS + DEFAULT + code, title, "exec"), names)
    return names


def run_manifest(title: str, names: dict[str, Any], server: Any, folder: Path) -> Dataset:
    """The rows of `loam synthesize` with a section's manifest, for the seeds of its code.

    What a reader must choose is filled in: the teacher's address, and few rows.
    """
    (text,) = read_blocks(SECTIONS[title], "yaml")
    block = yaml.safe_load(text)
    names["seeds"].to_json(folder / "seeds.jsonl")
    openai = {"baseURL": server.base_url, "model": "gpt-4.1-mini"}
    chosen = {"targetCount": 10, "qualityThreshold": 0.0}
    teacher = {"kind": "openai", "openai": openai}
    spec = {
        "model": {"uri": "file://./nowhere"},
        "output": {"uri": "file://./output"},
        **block,
        "synthesis": {**block["synthesis"], **chosen, "teacher": teacher},
    }
    head = {"apiVersion": "loam.dev/v1alpha1", "kind": "FineTuneJob"}
    job = FineTuneJob.model_validate({**head, "metadata": {"name": "page"}, "spec": spec})
    made = synthesize_job(job, folder, folder / "rows.jsonl")
    return load_examples([made.out], job.spec.data).dataset


@pytest.fixture(autouse=True)
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The endpoint that the page tells to set."""
    with serve_script(write_any_rows) as server:
        monkeypatch.setenv("LOAM_CACHE", str(tmp_path))
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield server


def check_seeded(names: dict[str, Any], server: Any) -> None:
    assert {row.target for row in names["synthetic"]} == {"billing", "delivery"}
    assert 0 < len(names["rows"]) <= 20
    assert "variation" in names["synthetic"].report


def check_extraction(names: dict[str, Any], server: Any) -> None:
    assert all(row.target in row.input for row in names["synthetic"])
    assert "copied" in server.bodies[0]["messages"][1]["content"]


def check_summaries(names: dict[str, Any], server: Any) -> None:
    assert all(len(row.input) > 3 * len(row.target) for row in names["synthetic"])
    assert "nothing that the document does not" in server.bodies[0]["messages"][1]["content"]


def check_pairs(names: dict[str, Any], server: Any) -> None:
    made = names["synthetic"]
    assert all(row.target != row.rejected for row in made)
    judged = made.report["filters"]["preference"]["seen"]
    assert judged >= 10
    asked = [body["messages"][0]["content"] for body in server.bodies]
    assert sum("Which of two answers" in text for text in asked) == 2 * judged


def check_sql(names: dict[str, Any], server: Any) -> None:
    assert all(row.target.startswith("SELECT name") for row in names["synthetic"])
    assert names["synthetic"].report["filters"]["structured"]["seen"] >= 10


def check_json(names: dict[str, Any], server: Any) -> None:
    assert all(json.loads(row.target).keys() == {"filter", "month"} for row in names["synthetic"])


def check_text(names: dict[str, Any], server: Any) -> None:
    assert all(not row.input and row.target for row in names["synthetic"])


def check_languages(names: dict[str, Any], server: Any) -> None:
    asked = "".join(body["messages"][1]["content"] for body in server.bodies)
    assert abs(asked.count("in German") - asked.count("in French")) <= 2


def check_in_context(names: dict[str, Any], server: Any) -> None:
    assert sorted(row.target for row in names["synthetic"]) == ["negative"] * 5 + ["positive"] * 5
    assert server.bodies[0]["temperature"] == 1.0


def check_rationales(names: dict[str, Any], server: Any) -> None:
    assert all(text.startswith("Two times") for text in names["explained"])
    real = zip(names["real"], names["seeds"], strict=True)
    assert all(
        row["rationale"] == f"So it is {seed['completion']}." and row["origin"] == "seed"
        for row, seed in real
    )


CHECKS = {
    "# seeded": check_seeded,
    "## Extraction and question answering": check_extraction,
    "## Summarization": check_summaries,
    "## Preference pairs": check_pairs,
    "## Plain text for a domain": check_text,
    "## SQL": check_sql,
    "## JSON": check_json,
    "## Other languages": check_languages,
    "# inContext": check_in_context,
    "# rationale": check_rationales,
}


def test_every_section_is_tried() -> None:
    """An example without a test would rot unseen."""
    assert set(SECTIONS) == set(CHECKS)


def test_every_strategy_has_its_page() -> None:
    """A strategy that no page names is one that nobody finds."""
    assert set(PAGES) == set(STRATEGIES)
    assert {f"# {name}" for name in STRATEGIES} <= set(SECTIONS)


@pytest.mark.parametrize("title", CHECKS)
def test_example_runs(
    title: str, teacher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a reader copies works, for every strategy and task type: the code, and the manifest."""
    monkeypatch.chdir(tmp_path)
    names = run_example(title)
    assert len(names["synthetic"]) >= 10
    assert {row.origin for row in names["synthetic"]} == {"synthetic"}
    CHECKS[title](names, teacher)
    assert len(run_manifest(title, names, teacher, tmp_path)) == 10


def test_pairs_that_are_none_are_dropped(tmp_path: Path) -> None:
    """A teacher that cannot tell its own pairs apart yields none, and each is told with the
    reason; the rest of the quota is not filled with them."""

    def favour_the_first(call: Call) -> Reply:
        is_verdict = "Which of two" in call.question
        fair = call.number % 3 == 0
        return Reply("A") if is_verdict and not fair else write_any_rows(call)

    seeds = Dataset.from_list(
        [{"prompt": f"Why {n}?", "chosen": f"Certainly {n}", "rejected": f"No {n}"} for n in "abcd"]
    )
    with serve_script(favour_the_first) as server:
        one = OpenAICompatibleTeacher("m", server.base_url, "k", concurrency=1)
        made = SyntheticPipeline(one, journal_dir=tmp_path).generate(seeds, 6)
    reasons = [item["reason"] for item in made.rejected if item["filter"] == "preference"]
    assert reasons
    assert set(reasons) == {TIE}
    funnel = made.report["filters"]["preference"]
    assert funnel["seen"] - funnel["passed"] == len(reasons)
    assert funnel["passed"] >= len(made)


def test_manifests_are_valid() -> None:
    """The blocks of YAML on the pages are accepted as they stand."""
    blocks = [yaml.safe_load(text) for page in PAGES.values() for text in read_blocks(page, "yaml")]
    assert len(blocks) == len(SECTIONS)
    for block in blocks:
        DataSpec.model_validate(block["data"])
        Synthesis.model_validate(block["synthesis"])
        Training.model_validate(block.get("training", {}))


@pytest.mark.parametrize("page", PAGES)
def test_fields_have_the_defaults_that_are_told(page: str) -> None:
    """A default that a page gets wrong is found out by rows that are cut off."""
    blocks = {"synthesis": Synthesis(target_count=1), "training": Training()}
    told = re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", PAGES[page], re.MULTILINE)
    assert told
    for path, default in told:
        block, *names = path.split(".")
        value: Any = blocks[block].model_dump(by_alias=True, mode="json")
        for name in names:
            value = value[name]
        assert str(value) == default, path
