"""examples/remote-teacher, step by step as its README says, with a real S3 server.

The teacher is scripted: the one model that is small enough to run here writes no meeting request
that passes the filters. For the same reason of size a tiny model is trained in place of the .gguf.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.tools.documented import list_commands
from tests.tools.fault_teacher import Call, FaultTeacher, Reply, serve_script
from tests.tools.s3_server import S3Server
from tests.tools.tiny_job import run_loam
from tests.tools.tiny_models import build_tiny_model, write_tiny_gguf

from loam_runtime.storage.digests import digest_path

pytestmark = pytest.mark.usefixtures("without_ray")

ROOT = Path(__file__).parents[2]
EXAMPLE = Path("examples/remote-teacher")
MODEL = Path("examples/models/gemma-3-270m-q4_k_m.gguf")
KEY = "sk-of-the-example-4711"
DAYS = {"mon": "Monday", "tue": "Tuesday", "wed": "Wednesday", "thu": "Thursday", "fri": "Friday"}
NAMES = [
    "Ava",
    "Bo",
    "Cleo",
    "Dirk",
    "Emre",
    "Finn",
    "Gitta",
    "Hana",
    "Ivo",
    "Jale",
    "Kofi",
    "Lars",
]
THINGS = [
    "archive",
    "canteen",
    "catalogue",
    "fleet",
    "garden",
    "harbour",
    "logo",
    "payroll",
    "website",
]
MATTERS = ["audit", "budget", "contract", "design", "lease", "move", "plan", "repair", "survey"]


def write_meetings(call: Call) -> Reply:
    """Correct rows, each another; a real teacher would make mistakes."""
    rng = random.Random(call.question)
    if count := re.search(r"Write (\d+) new", call.question):
        return Reply(json.dumps([_write_meeting(rng) for _ in range(int(count[1]))]))
    assert "Write one that is wrong" in call.question, call.question
    right = json.loads(re.findall(r"<answer>(.*?)</answer>", call.question)[0])
    wrong = {**right, "day": rng.choice([day for day in DAYS if day != right["day"]])}
    return Reply(f"<answer>{json.dumps(wrong)}</answer>")


def _write_meeting(rng: random.Random) -> dict[str, str]:
    day, hour, minutes = rng.choice(list(DAYS)), rng.randrange(8, 13), rng.choice((15, 45, 60))
    who = rng.sample(NAMES, rng.randrange(1, 4))
    topic = f"{rng.choice(THINGS)} {rng.choice(MATTERS)}"
    answer = {"day": day, "start": f"{hour:02}:00", "minutes": minutes, "who": who, "topic": topic}
    words = f"On {DAYS[day]} at {hour}:00 for {minutes} minutes with {' and '.join(who)}: {topic}."
    return {"input": words, "output": json.dumps(answer)}


@dataclass(frozen=True, slots=True)
class Reader:
    """Who does what the README says.

    Attributes:
        root: a copy of what the example needs of the repository.
        teacher: the server of step 3.
        environment: what the README has its reader export.
    """

    root: Path
    teacher: FaultTeacher
    environment: dict[str, str]

    @property
    def readme(self) -> str:
        return (self.root / EXAMPLE / "README.md").read_text()

    def type(self, command: str) -> str:
        """Run one of its `loam` commands; what it printed."""
        program, verb, manifest = command.split()
        assert program == "loam"
        arguments = [verb, str(self.root / manifest), "--json"]
        done = run_loam(*arguments, cache=self.root / "cache", **self.environment)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[Reader]:
    root = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / EXAMPLE, root / EXAMPLE)
    (root / MODEL).parent.mkdir()
    write_tiny_gguf(root / MODEL, license_id="gemma")
    # In place of the minute of its conversion.
    build_tiny_model(root / "cache" / "models" / digest_path(root / MODEL))
    with serve_script(write_meetings) as teacher:
        yield Reader(root, teacher, {**s3_server.env, "OPENAI_API_KEY": KEY})


@pytest.fixture(scope="module")
def finished(reader: Reader) -> dict[str, Any]:
    """What `loam run` printed, after the README's steps."""
    (upload,) = re.findall(r"<<'PY'\n(.*?)^ {4}PY$", reader.readme, re.MULTILINE | re.DOTALL)
    script = re.sub(r"^ {4}", "", upload, flags=re.MULTILINE)
    environment = {**os.environ, **reader.environment}
    command = [sys.executable, "-c", script]
    subprocess.run(command, cwd=reader.root, env=environment, check=True, timeout=600)
    manifest = reader.root / EXAMPLE / "job.yaml"
    text = manifest.read_text()
    assert "baseURL: http://127.0.0.1:8080/v1" in text
    text = text.replace("http://127.0.0.1:8080/v1", reader.teacher.base_url)
    manifest.write_text(text.replace("epochs: 8", "epochs: 1"))  # for the time it takes
    plan, run = (one for one in list_commands(reader.readme) if one.startswith("loam "))
    planned = json.loads(reader.type(plan))
    assert reader.teacher.num_requests == 0
    outcome = json.loads(reader.type(run))
    return {"plan": planned, "command": run, **outcome}


def test_the_readme_leads_to_an_adapter(
    reader: Reader, finished: dict[str, Any], s3_server: S3Server
) -> None:
    """A first example that fails on the way loses its reader: all is where the README says."""
    run = finished["run"]
    published = "output/meeting-requests/"
    assert f"s3://loam-demo/{published}" in reader.readme
    assert run["adapter"] == f"s3://loam-demo/{published}runs/{run['runKey']}/adapter"
    client = s3_server.create_client()

    def read(key: str) -> bytes:
        return client.get_object(Bucket="loam-demo", Key=published + key)["Body"].read()

    assert json.loads(read("latest.json"))["runKey"] == run["runKey"]
    report = json.loads(read(f"runs/{run['runKey']}/report.json"))
    assert {model["name"] for model in report["evaluation"]["models"]} == {
        "Fine-tuned",
        "Zero-shot",
        "In-context",
    }
    assert report["synthesis"]["num_kept"] == 60
    manifest = json.loads(read(f"runs/{run['runKey']}/manifest.json"))
    assert manifest["base"]["license"]["name"] == "gemma"
    assert "adapter/adapter_model.safetensors" in manifest["files"]
    for item in client.list_objects_v2(Bucket="loam-demo", Prefix=published)["Contents"]:
        assert KEY.encode() not in read(item["Key"].removeprefix(published))


def test_the_numbers_of_the_readme_are_the_files(reader: Reader) -> None:
    """ "45 requests", "60 more", "52 requests": a reader counts."""
    counts = {
        name: len((reader.root / EXAMPLE / f"{name}.jsonl").read_text().splitlines())
        for name in ("seeds", "test")
    }
    assert f"{counts['seeds']} requests such as" in reader.readme
    assert f"measured on {counts['test']} requests" in reader.readme
    assert "writes 60 more" in reader.readme
    assert "targetCount: 60" in (reader.root / EXAMPLE / "job.yaml").read_text()


def test_the_plan_told_what_the_teacher_would_be_asked(
    reader: Reader, finished: dict[str, Any]
) -> None:
    """The key went with every request, and there were as many as the plan had said."""
    teacher = finished["plan"]["teacher"]
    assert teacher["min_requests"] <= reader.teacher.num_requests <= teacher["max_requests"]
    assert {one["Authorization"] for one in reader.teacher.headers} == {f"Bearer {KEY}"}
    assert {body["model"] for body in reader.teacher.bodies} == {"teacher"}


def test_the_same_command_again_asks_nobody(reader: Reader, finished: dict[str, Any]) -> None:
    """A finished job is left alone."""
    before = reader.teacher.num_requests
    assert json.loads(reader.type(finished["command"]))["was_finished"]
    assert reader.teacher.num_requests == before
