"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from tests.tools.cases import SCALE, count_cases
from tests.tools.durations import BUDGET_SECONDS, DurationReport

# Read by libraries that are imported later, and by every process that a test starts: two tests run
# at a time, and threads that wait for each other's cores cost a fifth of the CPU time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from tests.tools.s3_server import S3Server

# How long one example takes depends on what else the machine does; pytest's timeout guards hangs.
# CI decides about a change, so there the cases are the same each time.
settings.register_profile(
    "loam", deadline=None, derandomize="CI" in os.environ, max_examples=count_cases(100)
)
settings.load_profile("loam")


def pytest_configure(config: pytest.Config) -> None:
    """Only the process that reports keeps account of the time, and only of usual runs."""
    if not hasattr(config, "workerinput") and SCALE == 1:
        config.pluginmanager.register(DurationReport(BUDGET_SECONDS))


@pytest.fixture(scope="module")
def without_ray() -> Iterator[None]:
    """For whole jobs whose subject is not how their workers are placed: `tools/warm_loam.py`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOAM_TEST_WITHOUT_RAY", "1")
        yield


@pytest.fixture(scope="session")
def teacher_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an OpenAI-compatible server (llama.cpp) that runs the 270M model."""
    from tests.tools.teacher_server import assemble_model, serve_model

    log = tmp_path_factory.mktemp("teacher") / "server.log"
    with serve_model(assemble_model(), log) as base_url:
        yield base_url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server (versitygw) for the whole session."""
    from tests.tools.s3_server import run_s3_server

    with run_s3_server() as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a new bucket of `s3_server`, which the AWS environment points to."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return s3_server.create_bucket()
