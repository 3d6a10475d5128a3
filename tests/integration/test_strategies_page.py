"""docs/strategies.md: every example runs as it stands, and its rows are what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset
from tests.tools.any_teacher import write_any_rows
from tests.tools.fault_teacher import Call, Reply, serve_script

from loam_api.finetunejob import Synthesis
from loam_api.training_block import Training
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.pipeline import SyntheticPipeline
from loam_runtime.synthesis.strategies.pairs import TIE

PAGE = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text(encoding="utf-8")
SECTIONS = {
    re.match(r"#* (.*)", part)[0]: part for part in re.split(r"\n(?=##+ )", PAGE) if "```" in part
}
IMPORTS = "from datasets import Dataset\nfrom loam_runtime.synthesis.pipeline import *\n"
DEFAULT = 'pipeline = SyntheticPipeline("gpt-4.1-mini", quality_threshold=0.5)\n'


def run_example(title: str) -> dict[str, Any]:
    """The names that a section's code leaves."""
    names: dict[str, Any] = {}
    code = "\n".join(re.findall(r"```python\n(.*?)```", SECTIONS[title], re.DOTALL))
    exec(compile(IMPORTS + DEFAULT + code, title, "exec"), names)
    return names


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
    assert made.report["pairs_judged"] >= 10
    asked = [body["messages"][0]["content"] for body in server.bodies]
    assert sum("Which of two answers" in text for text in asked) == 2 * made.report["pairs_judged"]


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


CHECKS = {
    "## seeded": check_seeded,
    "### Extraction and question answering": check_extraction,
    "### Summarization": check_summaries,
    "### Preference pairs": check_pairs,
    "### Plain text for a domain": check_text,
    "### Other languages": check_languages,
    "## inContext": check_in_context,
    "## rationale": check_rationales,
}


def test_every_section_is_tried() -> None:
    """An example without a test would rot unseen."""
    assert set(SECTIONS) == set(CHECKS)


@pytest.mark.parametrize("title", CHECKS)
def test_example_runs(title: str, teacher: Any) -> None:
    """What a reader copies works, for every strategy and task type."""
    names = run_example(title)
    assert len(names["synthetic"]) >= 10
    assert {row.origin for row in names["synthetic"]} == {"synthetic"}
    CHECKS[title](names, teacher)


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
    assert made.report["pairs_refused"] == len(reasons)
    assert made.report["pairs_judged"] - len(reasons) >= len(made)


def test_manifests_are_valid() -> None:
    """The blocks of YAML on the page are accepted as they stand."""
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    assert len(blocks) == 3
    for block in blocks:
        Synthesis.model_validate(block["synthesis"])
        Training.model_validate(block.get("training", {}))
