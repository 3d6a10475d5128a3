"""Bad inputs, each ending with its exit code, the place of the fault, and the way out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.tools.fault_teacher import Reply, serve_script
from tests.tools.tiny_job import write_job

from loam_runtime import cli


def run_job(monkeypatch: pytest.MonkeyPatch, capsys, manifest: Path, code: int) -> str:
    """Run a job in this process; returns what it printed as its error."""
    monkeypatch.setenv("LOAM_CACHE", str(manifest.parent / "cache"))
    monkeypatch.setattr(sys, "argv", ["loam", "run", str(manifest)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    error = capsys.readouterr().err
    assert int(stopped.value.code or 0) == code, error
    assert "What to do:" in error
    assert "Traceback" not in error
    return error


def write_lines(path: Path, *lines: bytes) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in lines))


GOOD_ROW = b'{"text": "a fine tent", "label": "praise"}'


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], ["seeds.jsonl", "no usable row"]),
        (
            [GOOD_ROW, b'{"text": "another", "label": "praise"}'],
            ["praise", "nothing to tell apart"],
        ),
        ([GOOD_ROW, b'{"text": "caf\xe9", "label": "complaint"}'], ["seeds.jsonl", "2", "UTF-8"]),
        ([GOOD_ROW, b'{"text": "", "label": "complaint"}'], ["seeds.jsonl", "2", "empty"]),
        (
            [GOOD_ROW, b'{"text": "' + b"word " * 100_000 + b'", "label": "complaint"}'],
            ["seeds.jsonl", "2", "150,000 characters"],
        ),
    ],
)
def test_bad_seeds(monkeypatch, capsys, tmp_path, lines, words) -> None:
    """Rows that cannot be used are named by file and row before anything is trained on them."""
    manifest = write_job(tmp_path)
    write_lines(tmp_path / "seeds.jsonl", *lines)
    error = run_job(monkeypatch, capsys, manifest, 10)
    for word in words:
        assert word in error


def test_test_rows_in_train(monkeypatch, capsys, tmp_path) -> None:
    """A test row that is also a seed would make the verdict a lie: refused, with both places."""
    manifest = write_job(tmp_path)
    first = (tmp_path / "seeds.jsonl").read_text().splitlines()[0]
    with (tmp_path / "test.jsonl").open("a") as file:
        file.write(first + "\n")
    error = run_job(monkeypatch, capsys, manifest, 10)
    assert "test.jsonl:61" in error
    assert "seeds.jsonl:1" in error


def test_label_unseen_in_train(monkeypatch, capsys, tmp_path) -> None:
    """A label that training never shows cannot be answered: said before, not as a bad score."""
    manifest = write_job(tmp_path)
    with (tmp_path / "test.jsonl").open("a") as file:
        file.write(json.dumps({"text": "something else", "label": "question"}) + "\n")
    assert "question" in run_job(monkeypatch, capsys, manifest, 10)


def test_missing_model(monkeypatch, capsys, tmp_path) -> None:
    """A wrong model path is found before any work."""
    manifest = write_job(tmp_path, model={"uri": "file://./nowhere"})
    assert "nowhere" in run_job(monkeypatch, capsys, manifest, 10)


def test_model_without_tokenizer(monkeypatch, capsys, tmp_path) -> None:
    """A folder of bare weights is refused with what is missing, not with a library's traceback."""
    manifest = write_job(tmp_path)
    for path in (tmp_path / "model").glob("*token*"):
        path.unlink()
    assert "tokenizer" in run_job(monkeypatch, capsys, manifest, 10)


def test_missing_credential(monkeypatch, capsys, tmp_path) -> None:
    """A secret that is not there is exit 11 and names the variable, before the teacher is asked."""
    openai = {
        "baseURL": "http://127.0.0.1:9/v1",
        "model": "any",
        "apiKeySecretRef": {"name": "teacher", "key": "LOAM_TEST_KEY"},
    }
    synthesis = {"targetCount": 4, "teacher": {"kind": "openai", "openai": openai}}
    manifest = write_job(tmp_path, synthesis=synthesis)
    assert "LOAM_TEST_KEY" in run_job(monkeypatch, capsys, manifest, 11)


def test_teacher_answers_nonsense(monkeypatch, capsys, tmp_path) -> None:
    """A teacher that never writes a usable row fails the job (exit 12) after a pilot, not after
    the whole budget."""
    with serve_script(lambda call: Reply("I would rather not.")) as teacher:
        openai = {"baseURL": teacher.base_url, "model": "scripted"}
        synthesis = {"targetCount": 50, "teacher": {"kind": "openai", "openai": openai}}
        manifest = write_job(tmp_path, synthesis=synthesis)
        run_job(monkeypatch, capsys, manifest, 12)
        assert teacher.num_requests < 100


def test_spent_budget(monkeypatch, capsys, tmp_path) -> None:
    """The budget is a hard stop (exit 13) that names what was spent."""
    with serve_script(lambda call: Reply("[]")) as teacher:
        openai = {"baseURL": teacher.base_url, "model": "scripted"}
        synthesis = {
            "targetCount": 50,
            "teacher": {"kind": "openai", "openai": openai},
            "budget": {"maxRequests": 3},
        }
        manifest = write_job(tmp_path, synthesis=synthesis)
        assert "3" in run_job(monkeypatch, capsys, manifest, 13)
        assert teacher.num_requests <= 3


def test_two_runs_at_once(monkeypatch, capsys, tmp_path) -> None:
    """A run that another living process works on is not joined by a second writer."""
    from loam_api.run_key import compute_run_key
    from loam_runtime import RUNTIME_VERSION
    from loam_runtime.manifest import load_manifest
    from loam_runtime.sources import fetch_sources
    from loam_runtime.storage.registry import open_store, resolve_uri

    manifest = write_job(tmp_path)
    monkeypatch.setenv("LOAM_CACHE", str(tmp_path / "cache"))
    job = load_manifest(manifest)
    digests = fetch_sources(job.spec, tmp_path).digests
    key = compute_run_key(
        job,
        runtime_version=RUNTIME_VERSION,
        **{f"{role}_digest": digest for role, digest in digests.items()},
    )
    store = open_store(resolve_uri(job.spec.output.uri, tmp_path))
    lock = {
        "token": 7,
        "owner": "default/tiny",
        "attempt": 1,
        "host": "another-machine",
        "pid": 1,
        "started": "",
        "nonce": "n",
        "held": True,
    }
    store.put(f"runs/{key}/lock.json", json.dumps(lock).encode())
    run_job(monkeypatch, capsys, manifest, 1)
