"""A whole job, by the command a user types, on a tiny model: to its end, and killed on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.tools.fault_teacher import FaultTeacher, serve_script
from tests.tools.tiny_job import (
    END_SECONDS,
    find_run,
    run_loam,
    start_loam,
    write_examples,
    write_job,
)
from tests.tools.tiny_models import build_tiny_tokenizer

from loam_runtime.data.tables import read_table
from loam_runtime.export.manifest import verify_manifest
from loam_runtime.storage.registry import open_store
from loam_runtime.storage.run_lock import parse_lock

DEADLINE_SECONDS = 180


def write_synthetic_job(folder: Path, teacher: FaultTeacher) -> Path:
    openai = {"baseURL": teacher.base_url, "model": "scripted"}
    synthesis = {"targetCount": 10, "teacher": {"kind": "openai", "openai": openai}}
    return write_job(folder, synthesis=synthesis)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a job that ran to its end."""
    folder = tmp_path_factory.mktemp("finished")
    with serve_script(write_examples) as teacher:
        manifest = write_synthetic_job(folder, teacher)
        done = run_loam("run", str(manifest), cache=folder / "cache")
    assert done.returncode == 0, done.stderr
    return folder


def test_everything_promised_is_published(finished: Path) -> None:
    """A run leaves adapter, report, manifest and markers, and every file is as its hash says."""
    run = find_run(finished)
    manifest = verify_manifest(run)
    names = set(manifest["files"])
    for name in (
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "adapter/tokenizer.json",
        "adapter/loam_prompt.json",
        "adapter/README.md",
        "report.html",
        "report.json",
        "plan.json",
        "data/split.json",
        "evaluation/tuned.jsonl",
        "evaluation/zeroShot.jsonl",
        "data/README.md",
        "evaluation/inContext.jsonl",
        "evaluation/majority.jsonl",
    ):
        assert name in names
    latency = read_json(run / "report.json")["evaluation"]["latency"]
    ways = ["Base model", "Adapter on the base model", "Adapter merged into the base model"]
    assert [way["name"] for way in latency] == ways
    assert manifest["base"]["license"]["name"] == ""
    assert "Base model: not stated" in (run / "adapter/README.md").read_text()
    assert (run / "_SUCCESS").exists()
    latest = json.loads((finished / "output" / "latest.json").read_text())
    assert latest["runKey"] == run.name


def test_log_names_job_stage_and_attempt(finished: Path) -> None:
    """Logs are one JSON object a line and can be joined with the run they belong to."""
    (log,) = find_run(finished).glob("logs/*/log.jsonl")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert {event["job"] for event in events} == {"tiny"}
    assert {"split", "train", "evaluate"} <= {event["stage"] for event in events}
    assert all(event["attempt"] == 1 for event in events)


def test_a_finished_job_is_left_alone(finished: Path) -> None:
    """Running a finished job again changes no file: GitOps applies the same job for ever."""
    before = {path: path.stat().st_mtime_ns for path in (finished / "output").rglob("*")}
    done = run_loam("run", str(finished / "job.yaml"), "--json", cache=finished / "cache")
    assert done.returncode == 0
    assert json.loads(done.stdout)["was_finished"]
    assert before == {p: p.stat().st_mtime_ns for p in (finished / "output").rglob("*")}


def test_what_another_made_meanwhile_is_not_made_again(finished: Path, tmp_path: Path) -> None:
    """Who waited for a run's lock finds the run published: it changes and pays nothing."""
    folder = tmp_path / "same"
    shutil.copytree(finished, folder)
    run = find_run(folder)
    success = (run / "_SUCCESS").read_bytes()
    (run / "_SUCCESS").unlink()
    ours = parse_lock((run / "lock.json").read_bytes())
    theirs = replace(ours, held=True, host="another-machine", owner="a/b", renew_seconds=20)
    store = open_store(f"file://{run}")  # whole or not at all: the waiting job reads all the time
    store.put("lock.json", theirs.to_bytes())
    command = ["run", str(folder / "job.yaml"), "--json"]
    with start_loam(*command, cache=tmp_path / "cache") as process:
        wait_for_line(process, "The run is held by attempt 1 of a/b on another-machine")
        (run / "_SUCCESS").write_bytes(success)
        before = stat_artifacts(run)
        store.put("lock.json", theirs.release().to_bytes())
        output, errors = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 0, errors
    assert json.loads(output)["was_finished"]
    assert stat_artifacts(run) == before


def stat_artifacts(run: Path) -> dict[Path, int]:
    """When each file of a run was written; its logs and its lock belong to whoever starts."""
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "lock.json"]
    return {p: p.stat().st_mtime_ns for p in files if p.relative_to(run).parts[0] != "logs"}


def test_report_and_predict_read_what_was_published(finished: Path) -> None:
    """The verdict, the page and the adapter's answers come from the published files alone."""
    cache = finished / "other-cache"
    page = finished / "page.html"
    shown = run_loam("report", str(finished / "job.yaml"), "-o", str(page), cache=cache)
    assert shown.returncode == 0, shown.stderr
    assert "Adapter:" in shown.stdout
    assert page.read_bytes() == (find_run(finished) / "report.html").read_bytes()
    texts = ["love parcel", "broken tent"]
    answered = run_loam("predict", str(finished / "job.yaml"), *texts, "--json", cache=cache)
    assert [row["input"] for row in json.loads(answered.stdout)] == texts


def test_plain_text_without_bos(tmp_path: Path) -> None:
    """A text has no prompt, and no answer that is right or wrong: its run ends all the same, and
    calls no row wrong. It used to fail after the training, with nothing to be timed on."""
    rows = {"seeds.jsonl": 1, "test.jsonl": 2}
    data = {"task": "text", "seeds": {"uri": "file://./seeds.jsonl"}}
    manifest = write_job(tmp_path, data={**data, "test": {"uri": "file://./test.jsonl"}})
    build_tiny_tokenizer(bos=False).save_pretrained(tmp_path / "model")
    for name, seed in rows.items():
        texts = [{"text": f"the parcel {seed}-{index} is late"} for index in range(20)]
        (tmp_path / name).write_text("".join(json.dumps(text) + "\n" for text in texts))
    done = run_loam("run", str(manifest), cache=tmp_path / "cache", LOAM_TEST_WITHOUT_RAY="1")
    assert done.returncode == 0, done.stderr
    evaluation = read_json(find_run(tmp_path) / "report.json")["evaluation"]
    assert "logLoss" in evaluation["models"][0]["metrics"]
    assert evaluation["latency"] == []
    assert evaluation["predictions"] == []


def test_killed_at_every_stage(finished: Path, tmp_path: Path) -> None:
    """kill -9 in each stage, then the same command: it goes on where it was, asks the teacher
    nothing that was answered, and ends with the very rows and losses of an undisturbed run."""
    cache = tmp_path / "cache"
    with serve_script(write_examples) as teacher:
        manifest = write_synthetic_job(tmp_path, teacher)
        for stage in ("split", "synthesize", "plan", "baselines"):
            with start_loam("run", str(manifest), cache=cache) as process:
                wait_for_line(process, f"] {stage} ")
                kill(process)
        with start_loam("run", str(manifest), cache=cache) as process:
            wait_for_checkpoint(tmp_path, process)
            kill(process)
        for stage in ("evaluate", "report"):
            with start_loam("run", str(manifest), cache=cache) as process:
                wait_for_line(process, f"] {stage} ")
                kill(process)
        done = run_loam("run", str(manifest), cache=cache)
        assert done.returncode == 0, done.stderr
        assert teacher.num_repeated == 0
    undisturbed, killed = find_run(finished), find_run(tmp_path)
    assert read_json(killed / "data/split.json") == read_json(undisturbed / "data/split.json")
    for name in ("train", "synthetic"):
        tables = [read_table(run / f"data/{name}.parquet") for run in (undisturbed, killed)]
        assert tables[0]["input"] == tables[1]["input"]
    losses = [read_json(r / "training/result.json")["losses"] for r in (undisturbed, killed)]
    assert losses[0] == losses[1]
    verify_manifest(killed)


def test_interrupt_is_resumable(finished: Path, tmp_path: Path) -> None:
    """Ctrl-C ends with code 130 and a word on how to go on, not with a traceback."""
    with start_loam("run", str(write_job(tmp_path)), cache=tmp_path / "cache") as process:
        wait_for_line(process, "] baselines ")
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode == 130
    assert "same command goes on" in errors
    assert "Traceback" not in errors


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def wait_for_line(process: subprocess.Popen[str], words: str) -> None:
    """Read the process' errors until a line holds `words`."""
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"the process ended before it said {words!r}")


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until the run under `folder` has a complete checkpoint."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not list(folder.glob("output/runs/*/checkpoints/*/complete-*")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
