"""Stages that are done once: what a stage's failure looks like from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from loam_api.exits import ExitCode
from loam_runtime.errors import InputError
from loam_runtime.observability.relay import RelayedMonitor
from loam_runtime.stages import StageRunner
from loam_runtime.storage.registry import open_store
from loam_runtime.storage.run_store import RunStore

FULL_DISK = Path("/dev/full")  # a device of the kernel: every write to it finds no space


@pytest.fixture
def stages(tmp_path: Path) -> StageRunner:
    run = RunStore(open_store(f"file://{tmp_path}/out"), "run")
    run.acquire("default/job", 1)
    return StageRunner(run, tmp_path / "work", RelayedMonitor(lambda event: None))


def test_a_full_disk_is_said_whatever_stage_meets_it(stages: StageRunner, tmp_path: Path) -> None:
    """Every stage writes to the work folder: without space the user is told so, and where, with
    the exit code of what the user has to mend, and not shown a traceback."""

    def write(folder: Path, monitor: object) -> dict[str, int]:
        with FULL_DISK.open("w") as file:  # says no name, as most writers do
            file.write("row")
        return {}

    with pytest.raises(InputError, match="No space left for") as caught:
        stages.run("split", write)
    assert str(tmp_path / "work" / "split") in caught.value.message
    assert "LOAM_CACHE" in caught.value.remedy
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_other_errors_of_the_system_stay_what_they_are(stages: StageRunner) -> None:
    """A teacher that does not answer is an OSError too: it must not be called a full disk."""

    def fail(folder: Path, monitor: object) -> dict[str, int]:
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        stages.run("split", fail)
