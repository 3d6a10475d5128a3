"""The command line: its words, its exit codes, its start-up time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from tests.tools.tiny_job import write_job
from tests.tools.tiny_models import build_tiny_tokenizer

from loam_runtime import cli
from loam_runtime.data.examples import Example
from loam_runtime.data.prompt import PromptContract
from loam_runtime.data.template import encode_example
from loam_runtime.errors import InputError
from loam_runtime.results import encode_question
from loam_runtime.storage.digests import digest_path

MANIFEST = """
apiVersion: loam.dev/v1alpha1
kind: FineTuneJob
metadata: {name: tiny}
spec:
  model: {uri: file://./model}
  data:
    task: classification
    seeds: {uri: file://./seeds.jsonl}
  output: {uri: file://./output}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(MANIFEST)
    return path


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["loam", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_valid_manifest(monkeypatch, capsys, manifest) -> None:
    """A correct manifest is called valid, else users would hunt errors that are not there."""
    assert run_cli(monkeypatch, "validate", str(manifest)) == 0
    assert "valid" in capsys.readouterr().out


def test_all_errors_of_all_files_at_once(monkeypatch, capsys, manifest, tmp_path) -> None:
    """Every error is named with its field, value and way out, or fixing takes many rounds."""
    other = tmp_path / "other.yaml"
    other.write_text(
        MANIFEST.replace("task: classification", "tsk: classification").replace(
            "metadata: {name: tiny}", "metadata: {name: Bad_Name}"
        )
    )
    assert run_cli(monkeypatch, "validate", "--json", str(manifest), str(other)) == 2
    answer = json.loads(capsys.readouterr().out)
    assert not answer["valid"]
    (problems,) = answer["problems"].values()
    by_path = {problem["path"]: problem for problem in problems}
    assert set(by_path) == {"metadata.name", "spec.data.task", "spec.data.tsk"}
    assert "task" in by_path["spec.data.tsk"]["suggestion"]
    assert "Bad_Name" in by_path["metadata.name"]["value"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid YAML"),
        ("", "0 documents"),
        ("a: 1\n---\nb: 2", "2 documents"),
        ("spec: {}\nspec: {}", "given twice"),
        ("- 1", "expected"),
    ],
)
def test_files_that_are_no_manifest(monkeypatch, capsys, tmp_path, content, words) -> None:
    """A file that is no manifest is exit 2 and says why; a key given twice is not overwritten."""
    path = tmp_path / "job.yaml"
    path.write_text(content)
    assert run_cli(monkeypatch, "run", str(path)) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "What to do" in error


def test_missing_file(monkeypatch, capsys, tmp_path) -> None:
    """A wrong path is exit 2, not a traceback."""
    assert run_cli(monkeypatch, "run", str(tmp_path / "nowhere.yaml")) == 2
    assert "nowhere.yaml" in capsys.readouterr().err


def test_missing_seeds(monkeypatch, capsys, manifest, tmp_path) -> None:
    """Inputs are looked for before anything runs; a missing one is exit 10 and named."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert run_cli(monkeypatch, "run", str(manifest)) == 10
    assert "seeds.jsonl" in capsys.readouterr().err


def test_report_before_any_run(monkeypatch, capsys, manifest) -> None:
    """Asking for a result that does not exist says what to run."""
    assert run_cli(monkeypatch, "report", str(manifest)) == 10
    assert "loam run" in capsys.readouterr().err


def publish_run(folder: Path, *, job: str = "tiny", digest: str = "") -> None:
    """Leave what `report` and `predict` look at first, under `folder`/output."""
    run = folder / "output" / "runs" / "some-key"
    run.mkdir(parents=True)
    (folder / "output" / "latest.json").write_text(json.dumps({"runKey": "some-key"}))
    base = {"uri": "file://./model", "sha256": digest}
    verdict = {"text": "It wins.", "is_assessable": True}
    published = {"job": job, "base": base, "results": {"verdict": verdict}}
    (run / "manifest.json").write_text(json.dumps(published))


@pytest.mark.parametrize(("maker", "is_said"), [("tiny", False), ("other", True)])
def test_a_run_of_another_job_is_said_to_be_one(
    monkeypatch, capsys, manifest, tmp_path, maker: str, is_said: bool
) -> None:
    """Two jobs may publish to one output: the verdict of one must not pass for the other's."""
    publish_run(tmp_path, job=maker)
    for arguments in (("report", str(manifest)), ("report", str(manifest), "--json")):
        assert run_cli(monkeypatch, *arguments) == 0
        shown = capsys.readouterr()
        assert "It wins." in shown.out
        assert ("made by the job other, not by tiny" in shown.err) == is_said
        assert len(shown.err.splitlines()) == int(is_said)


def test_an_adapter_is_not_put_on_another_base(monkeypatch, capsys, manifest, tmp_path) -> None:
    """An adapter on a model it was not trained on answers, and wrongly: refused instead."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    publish_run(tmp_path, digest="a" * 64)
    assert run_cli(monkeypatch, "predict", str(manifest), "a text") == 10
    error = capsys.readouterr().err
    assert digest_path(tmp_path / "model")[:12] in error
    assert "aaaaaaaaaaaa" in error
    assert "What to do: Let spec.model name that model again" in error


@pytest.mark.parametrize("has_bos", [True, False])
def test_plain_text_is_continued(has_bos: bool) -> None:
    """The model goes on with the text that it is given, as it was trained on one: without this
    every text got the same answer, or none where there is no BOS."""
    tokenizer = build_tiny_tokenizer(bos=has_bos)
    contract = PromptContract("text", "", "", "", (), {}, use_chat_template=False)
    row = Example(id="1", input="", target="the film is good")
    whole = encode_example(contract, tokenizer, row)
    assert encode_question(contract, tokenizer, row.target) == list(whole.input_ids[:-1])
    if not has_bos:
        with pytest.raises(InputError, match="no text to continue"):
            encode_question(contract, tokenizer, "")


def test_a_plan_says_what_is_paid_and_what_is_not_learnt(monkeypatch, capsys, tmp_path) -> None:
    """Before anything is spent: the teacher's bill, that the time is the training's alone, and
    that the refused answers of preference rows teach nothing."""
    teacher = {"kind": "openai", "openai": {"baseURL": "http://h/v1", "model": "gpt-4o"}}
    manifest = write_job(
        tmp_path,
        data={"task": "generation", "seeds": {"uri": "file://./seeds.jsonl"}},
        synthesis={"targetCount": 1000, "teacher": teacher},
        evaluation={"judge": {"openai": {**teacher["openai"], "model": "gpt-4o-mini"}}},
    )
    row = {"prompt": "Where is it?", "chosen": "On its way.", "rejected": "No idea."}
    lines = [json.dumps({**row, "prompt": f"Where is {number}?"}) for number in range(20)]
    (tmp_path / "seeds.jsonl").write_text("\n".join(lines))
    assert run_cli(monkeypatch, "plan", str(manifest)) == 0
    shown = capsys.readouterr().out
    assert re.search(r"Cost of these: \d+\.\d\d to \d+\.\d\d USD", shown)
    assert "Training time, without synthesis and evaluation: about" in shown
    assert "20 rows have a refused answer" in shown
    # Of 20 seeds 6 are the test: each is judged in both orders, after it was measured on.
    assert "Judge of answers gpt-4o-mini: up to 24 requests" in shown
    assert re.search(r"Judge of answers.*\nCost of these: about \d+\.\d\d USD", shown)
    assert run_cli(monkeypatch, "plan", str(manifest), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert 0 < told["teacher"]["min_cost"] < told["teacher"]["max_cost"]
    assert told["answer_judge"]["cost"] > 0


def test_schema_is_json_schema(monkeypatch, capsys) -> None:
    """Editors are given a schema that accepts a manifest and refuses unknown fields."""
    assert run_cli(monkeypatch, "schema") == 0
    accepts = Draft202012Validator(json.loads(capsys.readouterr().out)).is_valid
    document = yaml.safe_load(MANIFEST)
    assert accepts(document)
    document["spec"]["training"] = {"metod": "lora"}
    assert not accepts(document)


@pytest.mark.parametrize("command", [["--help"], ["validate"], ["plan"]])
def test_heavy_imports_stay_out(command, manifest, tmp_path) -> None:
    """Help, validation and plans answer at once: none of them may load torch, Ray or datasets."""
    (tmp_path / "model").mkdir()
    (tmp_path / "seeds.jsonl").write_text('{"text": "a", "label": "x"}\n')
    arguments = command if command == ["--help"] else [*command, str(manifest)]
    code = (
        "import sys; sys.argv = ['loam', *sys.argv[1:]]\n"
        "from loam_runtime.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'ray', 'datasets', 'boto3', 'openai', 'sklearn'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=600
    )
    assert "HEAVY []" in done.stdout
