"""Stages that are done once: what a stage's failure looks like from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from loam_api.exits import ExitCode
from loam_runtime.errors import InputError, LoamError, StorageError
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


def write_file(folder: Path, monitor: object) -> dict[str, int]:
    (folder / "adapter").mkdir()
    (folder / "adapter" / "weights").write_bytes(b"many")
    return {"number": 1}


def restart(stages: StageRunner, work_dir: Path) -> StageRunner:
    """Another process, with a disk of its own."""
    return StageRunner(stages._run, work_dir, RelayedMonitor(lambda event: None))


def test_files_are_fetched_by_who_opens_them(stages: StageRunner, tmp_path: Path) -> None:
    """A small pod that only writes the report has no room for merged weights."""
    stages.run("train", write_file)
    again = restart(stages, tmp_path / "pod")
    output = again.run("train", write_file)
    assert (output.result, again.results) == ({"number": 1}, {"train": {"number": 1}})
    assert list(output.files) == ["adapter/weights"]
    assert not (tmp_path / "pod").exists()
    assert (output.folder / "adapter" / "weights").read_bytes() == b"many"
    assert output.folder == tmp_path / "pod" / "train"


def test_a_file_that_is_not_what_its_stage_wrote_is_refused(
    stages: StageRunner, tmp_path: Path
) -> None:
    """What was changed in the bucket must not be reported as the run's own."""
    stages.run("train", write_file)
    (tmp_path / "out" / "runs" / "run" / "adapter" / "weights").write_bytes(b"other")
    output = restart(stages, tmp_path / "pod").recall("train")
    with pytest.raises(StorageError, match="adapter/weights"):
        _ = output.folder


def test_a_stage_that_is_not_done_is_not_recalled(stages: StageRunner, tmp_path: Path) -> None:
    """A step that comes behind the training must say that it came too early, and not report what
    another chain of stages has left."""
    with pytest.raises(LoamError, match="The stage split of this run is not done"):
        stages.recall("split")
    stages.run("split", lambda folder, monitor: {"rows": 1})
    stages.run("train", write_file)
    again = restart(stages, tmp_path / "pod")
    with pytest.raises(LoamError, match="train"):
        again.recall("train")  # its key holds the split's
    assert again.recall("split").result == {"rows": 1}
    assert again.recall("train").result == {"number": 1}


def test_what_another_version_left_is_done_anew(
    stages: StageRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unfinished run that an upgrade overtakes must not fail far behind, at what an older
    version did not leave."""
    stages.run("split", lambda folder, monitor: {"rows": 1})
    monkeypatch.setattr("loam_runtime.stages._FORMAT", "next")
    again = restart(stages, tmp_path / "pod")
    assert again.run("split", lambda folder, monitor: {"rows": 1, "more": 2}).result["more"] == 2
